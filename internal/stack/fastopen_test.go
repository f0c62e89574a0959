package stack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/tcp"
)

// fastEcho is a listener with Fast Open that echoes.
func fastEcho(t *testing.T, b *Stack) *TCPListener {
	t.Helper()
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), &TCPOptions{TCP: &tcp.Config{FastOpen: 16}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, _, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return l
}

// fastDial connects with Fast Open; waits reports whether the SYN waits for data.
func fastDial(t *testing.T, a *Stack, to netip.AddrPort, waits bool) *TCPConn {
	t.Helper()
	c, err := a.DialTCP(t.Context(), netip.AddrPort{}, to, &TCPOptions{TCP: &tcp.Config{FastOpenConnect: true}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.tc.State() == tcp.SynSent; got != waits {
		t.Fatalf("Dial returned before the handshake: %v, want %v", got, waits)
	}
	return c
}

// writeFirst holds readers back until the handshake is over: a reader that comes
// first sends a SYN without data.
type writeFirst struct{ *TCPConn }

func (c writeFirst) Read(p []byte) (int, error) {
	for c.tc.State() == tcp.SynSent {
		time.Sleep(100 * time.Microsecond)
	}
	return c.TCPConn.Read(p)
}

// RFC 7413: the first connection gets a cookie, the others send their data with
// the SYN: little and much, and the order of reads and writes is free.
func TestRFC7413Stacks(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Balanced})
	l := fastEcho(t, b)
	transfer(t, fastDial(t, a, l.Addr(), false), 1000)
	for _, size := range []int{1, 100, 1300, 2000, 1 << 20} {
		transfer(t, writeFirst{fastDial(t, a, l.Addr(), true)}, size)
	}
	if st := a.Stats().TCP; st.TCPFastOpenActive != 5 || st.TCPFastOpenActiveFail != 0 {
		t.Errorf("client: %d, %d failed", st.TCPFastOpenActive, st.TCPFastOpenActiveFail)
	}
	if st := b.Stats().TCP; st.TCPFastOpenPassive != 5 || st.TCPFastOpenCookieReqd != 1 {
		t.Errorf("server: %d, %d cookies asked for", st.TCPFastOpenPassive, st.TCPFastOpenCookieReqd)
	}

	// A goroutine that reads first sends the SYN.
	c := fastDial(t, a, l.Addr(), true)
	got := make(chan []byte)
	go func() {
		p := make([]byte, 5)
		io.ReadFull(c, p)
		got <- p
	}()
	for deadline := time.Now().Add(patience); c.tc.State() == tcp.SynSent; {
		if time.Now().After(deadline) {
			t.Fatal("a reader waits for ever")
		}
		time.Sleep(time.Millisecond)
	}
	c.Write([]byte("hello"))
	if p := <-got; !bytes.Equal(p, []byte("hello")) {
		t.Errorf("read %q", p)
	}
	c.Close()

	// Close alone sends nothing; data written before Close is sent.
	before := b.Stats().TCP.TCPFastOpenPassive
	fastDial(t, a, l.Addr(), true).Close()
	c = fastDial(t, a, l.Addr(), true)
	c.Write([]byte("x"))
	c.Close()
	for deadline := time.Now().Add(patience); b.Stats().TCP.TCPFastOpenPassive != before+1; {
		if time.Now().After(deadline) {
			t.Fatal("what was written before Close does not arrive")
		}
		time.Sleep(time.Millisecond)
	}
}

// A server that is gone answers the first write by a reset.
func TestRFC7413Refused(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Balanced})
	l := fastEcho(t, b)
	to := l.Addr()
	first := fastDial(t, a, to, false)
	defer first.Close() // the port stays the stack's
	first.Write([]byte("x"))
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := fastDial(t, a, to, true)
	defer c.Close()
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != syscall.ECONNREFUSED {
		t.Errorf("error %v", err)
	}
}

// A listener that closes resets what nobody accepted, half-open or not.
func TestRFC7413ListenerCloses(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Balanced})
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), &TCPOptions{TCP: &tcp.Config{FastOpen: 16}})
	if err != nil {
		t.Fatal(err)
	}
	fastDial(t, a, l.Addr(), false).Close()
	c := fastDial(t, a, l.Addr(), true)
	defer c.Close()
	c.Write([]byte("x"))
	for deadline := time.Now().Add(patience); b.Stats().TCP.TCPFastOpenPassive == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no connection")
		}
		time.Sleep(time.Millisecond)
	}
	l.Close()
	if _, err := c.Read(make([]byte, 1)); err != syscall.ECONNRESET {
		t.Errorf("error %v", err)
	}
	if _, _, err := l.Accept(); err != net.ErrClosed {
		t.Errorf("Accept: %v", err)
	}
}
