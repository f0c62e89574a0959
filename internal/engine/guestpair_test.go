//go:build guest

package engine_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// pairChild is the value of guestChild for the process that has the second NIC.
const pairChild = "pair"

// pairEngine is the engine over NIC n, with 10.9.0.n+1 and fd09::n+1.
func pairEngine(n int) (*onload.Engine, error) {
	nic := os.Getenv(fmt.Sprintf("VMRUN_NIC%d_PCI", n))
	c := onload.Config{
		Interfaces: []string{nic}, Static: []string{fmt.Sprintf("%s 10.9.0.%d/24 fd09::%d/64", nic, n+1, n+1)}, Logger: zap.NewNop(),
		// 1,000 connections that are closed with 10,000 bytes each on their way: where
		// frames are short, some of those are reset.
		Frames: 12288,
	}
	if !need.QEMUSegments() {
		c.Offloads = onload.OffloadsChecksum
	}
	return onload.New(c)
}

// servePair answers on port 7 until its standard input ends: TCP as hashed does, and
// datagrams with themselves. On port 80 it serves a page.
func servePair() int {
	e, err := pairEngine(1)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer e.Close()
	l, err := e.Listen("tcp", ":7")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go serveHashed(l)
	p, err := e.ListenPacket("udp", ":7")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from) // what is lost is sent again
		}
	}()
	w, err := e.Listen("tcp", ":80")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go http.Serve(w, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(payload()) }))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// TestGuestPair: two processes have a NIC each by VFIO, of one link, and exchange bytes
// with equal hashes, connections and datagrams, without a kernel on either side.
func TestGuestPair(t *testing.T) {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), guestChild+"="+pairChild)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := child.Wait(); err != nil {
			t.Error("the other process: ", err)
		}
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	e, err := pairEngine(0)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, to := range []string{"10.9.0.2:7", "[fd09::2]:7"} {
		t.Run(to, func(t *testing.T) {
			dial := func() (net.Conn, error) { return e.Dial("tcp", to) }
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			if p := onload.PathOf(c); !p.Accelerated {
				t.Errorf("the path is %v", p)
			}
			bothWays(t, c)
			manyWays(t, dial)
			pageOf(t, e, to)
			u, err := e.Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			if err := echoStuff(u, testlong.Pick[int64](1<<20, 256<<20)); err != nil {
				t.Error(err)
			}
		})
	}
}

// pageOf has net/http's client fetch the page of the other process, whose port 7 is to.
func pageOf(t *testing.T, e *onload.Engine, to string) {
	t.Helper()
	host, _, _ := net.SplitHostPort(to)
	transport := &http.Transport{DialContext: e.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + net.JoinHostPort(host, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, payload()) {
		t.Errorf("%s: a page of %d bytes, %v", to, len(got), err)
	}
}

// echoStuff sends n bytes of stuff in datagrams, a few at a time, and compares what comes
// back with them. What does not come back in time is sent again.
func echoStuff(c net.Conn, n int64) error {
	const size, window = 1400, 16
	s, got := &stuff{n: n}, make([]byte, 2048)
	for sent := uint64(0); ; sent += window {
		waiting := map[uint64][]byte{}
		for i := range uint64(window) {
			b := make([]byte, 8+size)
			binary.BigEndian.PutUint64(b, sent+i)
			k, _ := io.ReadFull(s, b[8:])
			if k == 0 {
				break
			}
			waiting[sent+i] = b[:8+k]
		}
		if len(waiting) == 0 {
			return nil
		}
		for tries := 0; len(waiting) > 0; tries++ {
			if tries == 100 {
				return fmt.Errorf("%d datagrams of %d do not come back", len(waiting), sent)
			}
			for _, b := range waiting {
				if _, err := c.Write(b); err != nil {
					return err
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			for len(waiting) > 0 {
				k, err := c.Read(got)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil || k < 8 {
					return fmt.Errorf("%d bytes, %w", k, err)
				}
				at := binary.BigEndian.Uint64(got)
				want, ok := waiting[at]
				switch {
				case ok && bytes.Equal(want, got[:k]):
					delete(waiting, at)
				case ok || at >= sent+window:
					return fmt.Errorf("datagram %d came back as something else", at)
				}
			}
		}
	}
}
