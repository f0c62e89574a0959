package onload_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// fewFiles is RLIMIT_NOFILE of many shells.
const fewFiles = 1024

// TestFewDescriptors: a process that may have 1,024 descriptors has 5,000
// connections to one server, and descriptors left for the kernel's sockets.
func TestFewDescriptors(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	b := vethEngine(t, p.B, onload.Config{Logger: zap.NewNop()})
	ln, err := b.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoing(ln)
	u, err := b.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	c := p.A.Command("/proc/self/exe", "-test.run=^TestHelperFewDescriptors$", "-test.v")
	c.Env = append(os.Environ(), "FEW_IF="+p.A.If, "FEW_TO="+ln.Addr().String())
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestHelperFewDescriptors") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHelperFewDescriptors is the process of TestFewDescriptors.
func TestHelperFewDescriptors(t *testing.T) {
	name, to := os.Getenv("FEW_IF"), os.Getenv("FEW_TO")
	if name == "" {
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: fewFiles, Max: fewFiles}); err != nil {
		t.Fatal(err)
	}
	e, err := onload.New(onload.Config{Interfaces: []string{name}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ours := map[string]bool{}
	for network, n := range map[string]int{"tcp": 5000, "udp": 1500} {
		for _, c := range dialMany(t, e, network, to, n) {
			defer c.Close()
			if path := onload.PathOf(c); !path.Accelerated {
				t.Fatal(path)
			}
			local := network + " " + c.LocalAddr().String()
			if ours[local] {
				t.Fatalf("two connections from %s", local)
			}
			ours[local] = true
			if err := oneByte(c); err != nil {
				t.Fatalf("%s: %v", local, err)
			}
		}
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d descriptors", len(files))
	if len(files) > fewFiles/2+100 {
		t.Errorf("%d descriptors for %d connections", len(files), len(ours))
	}
	// To the same server from the kernel's sockets, which share the addresses.
	for range 200 {
		for _, network := range []string{"tcp", "udp"} {
			c, err := net.Dial(network, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if local := network + " " + c.LocalAddr().String(); ours[local] {
				t.Errorf("the kernel gives %s away, which is ours", local)
			}
			if err := oneByte(c); err != nil {
				t.Error(err)
			}
		}
	}
}

// dialMany opens n connections, some at a time.
func dialMany(t *testing.T, e *onload.Engine, network, to string, n int) []net.Conn {
	t.Helper()
	const workers = 8
	all := make([]net.Conn, n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				var err error
				if all[i], err = e.Dial(network, to); err != nil {
					t.Errorf("%s %d: %v", network, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all
}

// oneByte sends a byte to an echoing server and reads it back.
func oneByte(c net.Conn) error {
	b := []byte{42}
	if _, err := c.Write(b); err != nil {
		return err
	}
	b[0] = 0
	if n, err := c.Read(b); err != nil || b[0] != 42 {
		return fmt.Errorf("read %d bytes, %d: %w", n, b[0], err)
	}
	return nil
}
