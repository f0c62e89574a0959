package broker_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/internal/lab"
)

// TestPeersOfTheDead: the broker tells the peers of a client that is killed, accepted and
// dialled ones, also a broker that has taken the client over from an earlier one.
func TestPeersOfTheDead(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	l, err := w.B.Listen("tcp", netip.AddrPortFrom(w.B.Addr4, 9000).String())
	must(t, err)
	defer l.Close()
	for _, restarted := range []bool{false, true} {
		p := w.start("nobody")
		p.line()
		var peers []net.Conn
		for _, at := range w.at(7000) {
			p.want("broker "+at.String(), "listen tcp %v", at)
			c, err := w.B.Dial("tcp", at.String())
			must(t, err)
			defer c.Close()
			must(t, echoOver(c, 1))
			peers = append(peers, c)
		}
		p.want("broker", "open tcp %v", l.Addr())
		c, err := l.Accept()
		must(t, err)
		defer c.Close()
		peers = append(peers, c)
		if restarted {
			w.end(false)
			w.begin()
			// The client claims what it had before it asks for a new port.
			udp := w.at(7001)[0]
			p.want("broker "+udp.String(), "listen udp %v", udp)
		}
		must(t, p.Process.Kill())
		start := time.Now()
		for _, c := range peers {
			must(t, c.SetReadDeadline(time.Now().Add(patience)))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("restarted %v, peer %v: %v", restarted, c.RemoteAddr(), err)
			}
			t.Logf("restarted %v, peer %v: told after %v", restarted, c.RemoteAddr(), time.Since(start))
		}
	}
}

// TestLyingTable: of a table that a client has made up the broker tells nobody but peers
// of the client's own ports at the host's addresses.
func TestLyingTable(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	var socket, heard int
	must(t, w.A.Do(func() (err error) {
		if socket, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(socket, &unix.SockaddrInet4{Port: 7005, Addr: w.A.Addr4.As4()})
	}))
	defer unix.Close(socket)
	must(t, w.B.Do(func() (err error) {
		heard, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return err
	}))
	defer unix.Close(heard)
	must(t, unix.SetsockoptTimeval(heard, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}))

	tab, err := flowtable.New()
	must(t, err)
	defer tab.Close()
	own := netip.AddrPortFrom(w.A.Addr4, 7005)
	const lie, truth = 5001, 5002
	writer := tab.Writer()
	for _, local := range []netip.AddrPort{
		netip.AddrPortFrom(w.A.Addr4, 22),                            // never its port
		netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), 7005), // never the host's address
		netip.AddrPortFrom(w.B.Addr4, 7005),
	} {
		writer.Add(local, netip.AddrPortFrom(w.B.Addr4, lie), 0, 1)
	}
	writer.Add(netip.AddrPortFrom(w.A.Addr6, 7005), netip.AddrPortFrom(w.B.Addr4, lie), 0, 1) // of two families
	writer.Add(own, netip.AddrPortFrom(w.B.Addr4, truth), 0, 1)                               // the last one

	l := w.liar(t).hello()
	const sealed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	memory := memfd(t, 1<<20, sealed)
	must(t, l.Send(2, &wire.Grant{Link: 1, Index: uint32(w.A.Index), FrameSize: 4096, RxRing: 64, TxRing: 64}, memory))
	_, m, fds, err := l.Receive()
	must(t, err)
	defer wire.CloseAll(fds)
	if _, ok := m.(*wire.Granted); !ok {
		t.Fatalf("%#v", m)
	}
	for _, q := range []struct {
		m  wire.Message
		fd int
	}{
		{&wire.Claim{Link: 1, Port: wire.MakeEndpoint(6, own)}, socket},
		{&wire.Flows{}, memory}, // no table: replaced
		{&wire.Flows{}, tab.FD()},
	} {
		must(t, l.Send(3, q.m, q.fd))
		if _, m, _, err := l.Receive(); err != nil {
			t.Fatal(err)
		} else if _, ok := m.(*wire.OK); !ok {
			t.Fatalf("%#v: %#v", q.m, m)
		}
	}
	l.refused(unix.EINVAL, &wire.Flows{}, heard) // no memory file
	must(t, l.Close())
	for {
		b := make([]byte, 128)
		n, _, err := unix.Recvfrom(heard, b, 0)
		must(t, err)
		if n < 40 {
			continue
		}
		switch to := binary.BigEndian.Uint16(b[22:]); to {
		case lie:
			t.Fatalf("a peer of none of the client's flows was told: % x", b[:n])
		case truth:
			return
		}
	}
}
