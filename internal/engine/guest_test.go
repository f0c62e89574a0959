//go:build guest

package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// The tests here run in a guest with two NICs back to back: vfio-pci has the first,
// named by VMRUN_NIC0_PCI, the kernel's driver the second, VMRUN_NIC1_IF. See TestInGuest.

const guestChild = "GUEST_TEST_CHILD"

// guestStatic are the addresses of the NIC that is mapped. The kernel's has .2.
func guestStatic() []string {
	return []string{os.Getenv("VMRUN_NIC0_PCI") + " 10.9.0.1/24 fd09::1/64 default via 10.9.0.2 default via fd09::2 dns 10.9.0.2"}
}

func guestEngine() (*onload.Engine, error) {
	c := onload.Config{Interfaces: []string{os.Getenv("VMRUN_NIC0_PCI")}, Static: guestStatic(), Logger: zap.NewNop()}
	if !need.QEMUSegments() {
		c.Offloads = onload.OffloadsChecksum
	}
	return onload.New(c)
}

// TestMain is also the other process of TestGuestPair, and the process that is to be
// killed: it sends to the kernel's end until then.
func TestMain(m *testing.M) {
	switch os.Getenv(guestChild) {
	case "":
		os.Exit(m.Run())
	case pairChild:
		os.Exit(servePair())
	}
	e, err := guestEngine()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c, err := e.Dial("tcp", "10.9.0.2:7")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for b := make([]byte, 64<<10); err == nil; {
		_, err = c.Write(b)
	}
	fmt.Println(err)
	os.Exit(1)
}

// guestPeer has the kernel's NIC in a namespace of its own, and answers there.
func guestPeer(t *testing.T) *lab.NS {
	t.Helper()
	name := os.Getenv("VMRUN_NIC1_IF")
	if name == "" || os.Getenv("VMRUN_NIC0_PCI") == "" {
		t.Fatal("the tag guest needs a virtual machine with two NICs: see TESTING.md")
	}
	ns, err := lab.NewNS("peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	l, err := ns.Adopt(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.GiveBack(); err != nil {
			t.Error(err)
		}
	})
	for _, a := range []string{"10.9.0.2/24", "fd09::2/64"} {
		if err := l.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

// volume is so much that the windows turn over many times, and little enough for an
// emulated processor.
func volume() int64 { return testlong.Pick[int64](2<<20, 256<<20) }

// stuff is what is sent: n bytes that do not repeat soon. Each part follows from where it
// is.
type stuff struct{ at, n int64 }

func (s *stuff) Read(b []byte) (int, error) {
	if s.at == s.n {
		return 0, io.EOF
	}
	k := int(min(int64(len(b)), s.n-s.at))
	for i := range b[:k] {
		x := s.at + int64(i)
		b[i] = byte(x>>3) ^ byte(x>>11)*7 ^ byte(x>>19)*5
	}
	s.at += int64(k)
	return k, nil
}

// payload is the stuff's beginning.
func payload() []byte {
	b, _ := io.ReadAll(&stuff{n: 2 << 20}) // it does not fail
	return b
}

// sendStuff writes n bytes of stuff and returns their hash.
func sendStuff(w io.Writer, n int64) ([]byte, error) {
	h := sha256.New()
	b := make([]byte, 64<<10)
	for s := (&stuff{n: n}); ; {
		k, err := s.Read(b)
		if err != nil {
			return h.Sum(nil), nil
		}
		h.Write(b[:k])
		if _, err := w.Write(b[:k]); err != nil {
			return nil, err
		}
	}
}

// hashed answers each connection with the hash of what came, then with as much stuff,
// then with its hash.
func hashed(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	serveHashed(l)
}

func serveHashed(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			h := sha256.New()
			n, _ := io.Copy(h, c) // a short one has another hash
			_, _ = c.Write(h.Sum(nil))
			sum, _ := sendStuff(c, n)
			_, _ = c.Write(sum)
		}()
	}
}

// exchange sends n bytes over a connection that hashed has accepted, receives as many,
// and compares.
func exchange(c net.Conn, n int64) error {
	defer c.Close()
	sum, err := sendStuff(c, n)
	if err == nil {
		err = c.(interface{ CloseWrite() error }).CloseWrite()
	}
	if err != nil {
		return err
	}
	got := make([]byte, len(sum))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sum) {
		return errors.New("the peer received something else")
	}
	h := sha256.New()
	if _, err := io.CopyN(h, c, n); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sum) || !bytes.Equal(h.Sum(nil), sum) {
		return errors.New("something else came back")
	}
	return nil
}

func bothWays(t *testing.T, c net.Conn) {
	t.Helper()
	if err := exchange(c, volume()); err != nil {
		t.Fatal(err)
	}
}

// manyWays has many connections open at a time, each of which exchanges a little.
func manyWays(t *testing.T, dial func() (net.Conn, error)) {
	t.Helper()
	count := testlong.Pick(50, 1000)
	open := make([]net.Conn, count)
	for i := range open {
		c, err := dial()
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		open[i] = c
	}
	done := make(chan error)
	for _, c := range open {
		if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
			t.Fatal(err)
		}
		go func() { done <- exchange(c, 10_000) }()
	}
	for range open {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestGuestStack: TCP, UDP, HTTP and pings between the stack over VFIO and a kernel, as
// client and as server, IPv4 and IPv6.
func TestGuestStack(t *testing.T) {
	ns := guestPeer(t)
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, a := range []struct{ kernel, us string }{{"10.9.0.2", "10.9.0.1"}, {"fd09::2", "fd09::1"}} {
		t.Run(a.us, func(t *testing.T) {
			t.Run("client", func(t *testing.T) {
				l, err := ns.Listen("tcp", net.JoinHostPort(a.kernel, "0"))
				if err != nil {
					t.Fatal(err)
				}
				go hashed(t, l)
				c, err := e.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				driver, _, _ := strings.Cut(os.Getenv("VMRUN_NIC0_MODEL"), "-") // virtio-net-pci
				if p := onload.PathOf(c).String(); !strings.HasPrefix(p, os.Getenv("VMRUN_NIC0_PCI")+" ("+driver+", vfio, zero-copy") {
					t.Errorf("the path is %s", p)
				}
				bothWays(t, c)
				manyWays(t, func() (net.Conn, error) { return e.Dial("tcp", l.Addr().String()) })
			})
			t.Run("server", func(t *testing.T) {
				l, err := e.Listen("tcp", net.JoinHostPort(a.us, "0"))
				if err != nil {
					t.Fatal(err)
				}
				go hashed(t, l)
				c, err := ns.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				bothWays(t, c)
				manyWays(t, func() (net.Conn, error) { return ns.Dial("tcp", l.Addr().String()) })
			})
			t.Run("UDP", func(t *testing.T) { guestUDP(t, ns, e, a.kernel) })
			t.Run("HTTP", func(t *testing.T) { guestHTTP(t, ns, e, a.us) })
			t.Run("name", func(t *testing.T) { guestName(t, ns, e) })
			t.Run("ping", func(t *testing.T) {
				if err := ns.Ping(netip.MustParseAddr(a.us)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// guestUDP exchanges datagrams of all sizes up to the MTU, one after the other, and with
// -long many.
func guestUDP(t *testing.T, ns *lab.NS, e *onload.Engine, kernel string) {
	p, err := ns.ListenPacket("udp", net.JoinHostPort(kernel, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	c, err := e.Dial("udp", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want, got := payload(), make([]byte, 2048)
	for n := 1; n <= 1400; n += 7 {
		if _, err := c.Write(want[:n]); err != nil {
			t.Fatal(err)
		}
		if k, err := c.Read(got); err != nil || !bytes.Equal(got[:k], want[:n]) {
			t.Fatalf("%d bytes came back as %d, %v", n, k, err)
		}
	}
	if err := echoStuff(c, testlong.Pick(0, volume())); err != nil {
		t.Error(err)
	}
}

// guestHTTP serves by the stack to the kernel's unmodified client, and asks the other
// way round.
func guestHTTP(t *testing.T, ns *lab.NS, e *onload.Engine, us string) {
	l, err := e.Listen("tcp", net.JoinHostPort(us, "0"))
	if err != nil {
		t.Fatal(err)
	}
	page := payload()[:1<<20]
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(page) })}
	go server.Serve(l)
	defer server.Close()
	transport := &http.Transport{DialContext: ns.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, page) {
		t.Errorf("%d bytes of %d, %v", len(got), len(page), err)
	}
}

// guestName asks the name server of the configuration, over the NIC.
func guestName(t *testing.T, ns *lab.NS, e *onload.Engine) {
	p, err := ns.ListenPacket("udp", "10.9.0.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte{10, 9, 0, 2}},
				}}
			}
			answer, err := m.Pack()
			if err != nil {
				continue
			}
			_, _ = p.WriteTo(answer, from)
		}
	}()
	l, err := ns.Listen("tcp", "10.9.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c, err := e.Dial("tcp", net.JoinHostPort("peer.example", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestGuestKilled: a process that is killed in the middle of traffic leaves the device
// to the next one.
func TestGuestKilled(t *testing.T) {
	ns := guestPeer(t)
	l, err := ns.Listen("tcp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), guestChild+"=1")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
			t.Error(err)
		}
		_ = child.Process.Kill()
		_ = child.Wait() // killed
		c.Close()
	}
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := l.(*net.TCPListener).SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go hashed(t, l)
	c, err := e.Dial("tcp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	bothWays(t, c)
}

// TestGuestAddressTaken: New says that the kernel has the address.
func TestGuestAddressTaken(t *testing.T) {
	guestPeer(t)
	e, err := onload.New(onload.Config{
		Interfaces: []string{os.Getenv("VMRUN_NIC0_PCI")}, Static: []string{os.Getenv("VMRUN_NIC0_PCI") + " 10.9.0.2/24"}, Logger: zap.NewNop()})
	if err == nil {
		e.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "10.9.0.2: another host on the link has the address") {
		t.Errorf("the error is %v", err)
	}
}

// TestGuestKernel: what is not behind the NIC is the kernel's, through the same engine.
func TestGuestKernel(t *testing.T) {
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := e.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := onload.PathOf(c); p.Accelerated {
		t.Errorf("the path is %v", p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := e.DialContext(ctx, "tcp", "10.9.0.77:7"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("nobody is there, and the error is %v", err)
	}
}
