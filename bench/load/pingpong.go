package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	// hung is how long an answer over TCP may take. A longer one never comes,
	// however busy the machine is.
	hung = 20 * time.Second
	// patience is how long the answer to a datagram may take; it may be lost.
	patience = 2 * time.Second
)

// deadline keeps a connection's deadline ahead, roughly by the time given. It is
// moved now and then only, since setting it for each operation would be measured
// too.
type deadline struct{ next time.Time }

func (d *deadline) extend(now time.Time, ahead time.Duration, set func(time.Time) error) error {
	if now.Before(d.next) {
		return nil
	}
	d.next = now.Add(ahead / 4)
	return set(now.Add(ahead + ahead/4))
}

// serveEcho answers every message of s.Size bytes with the same, on any number
// of connections.
func serveEcho(n Network, s *Spec) (*Server, error) {
	l, err := n.Listen("tcp", net.JoinHostPort(s.Local, "0"))
	if err != nil {
		return nil, err
	}
	var m since
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.begin()
			if serial(n) {
				echo(c, s.Size)
			} else {
				go echo(c, s.Size)
			}
		}
	}()
	return &Server{Addrs: []string{l.Addr().String()}, Path: n.Path(l), Stop: func() (Sample, error) {
		sm := Sample{CPU: m.spent(), Counters: n.Counters()}
		return sm, l.Close()
	}}, nil
}

func echo(c net.Conn, size int) {
	defer c.Close()
	b := make([]byte, size)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func callTCP(n Network, s *Spec) (Sample, error) {
	c, err := n.Dial("tcp", s.Addrs[0])
	if err != nil {
		return Sample{}, err
	}
	defer c.Close()
	clk := NewClock(s)
	var d deadline
	b := make([]byte, s.Size)
	start := time.Now()
	for i := byte(0); ; i++ {
		if err := d.extend(start, hung, c.SetDeadline); err != nil {
			return Sample{}, err
		}
		b[0], b[len(b)-1] = i, i
		if _, err := c.Write(b); err != nil {
			return Sample{}, fmt.Errorf("write after %d round trips: %w", clk.all, err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return Sample{}, fmt.Errorf("read after %d round trips: %w", clk.all, err)
		}
		now := time.Now()
		if b[0] != i || b[len(b)-1] != i {
			return Sample{}, errors.New("the answer is not what was sent")
		}
		if !clk.Op(start, now) {
			break
		}
		start = now
	}
	sm, err := clk.Sample()
	sm.Bytes = sm.Ops * int64(s.Size)
	sm.Path, sm.Counters = n.Path(c), n.Counters()
	return sm, err
}

func datagrams(n Network, addr string) (Datagrams, net.PacketConn, error) {
	c, err := n.ListenPacket("udp", addr)
	if err != nil {
		return nil, nil, err
	}
	d, ok := c.(Datagrams)
	if !ok {
		c.Close()
		return nil, nil, fmt.Errorf("%T has no ReadFromUDPAddrPort", c)
	}
	return d, c, nil
}

// bufferSizes are set on both ends of UDP cases, so that the comparison is not
// one of default sizes: the kernel's is small.
const bufferSizes = 4 << 20

func growBuffers(c any) {
	type buffers interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}
	if b, ok := c.(buffers); ok {
		_ = b.SetReadBuffer(bufferSizes) // as much as there may be
		_ = b.SetWriteBuffer(bufferSizes)
	}
}

func serveDatagrams(n Network, s *Spec) (*Server, error) {
	d, c, err := datagrams(n, net.JoinHostPort(s.Local, "0"))
	if err != nil {
		return nil, err
	}
	growBuffers(c)
	var m since
	go func() {
		b := make([]byte, 1<<16)
		for {
			k, from, err := d.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			m.begin()
			// The client counts an answer that could not be sent as lost.
			_, _ = d.WriteToUDPAddrPort(b[:k], from)
		}
	}()
	return &Server{Addrs: []string{c.LocalAddr().String()}, Path: n.Path(c), Stop: func() (Sample, error) {
		sm := Sample{CPU: m.spent(), Counters: n.Counters()}
		return sm, c.Close()
	}}, nil
}

func callUDP(n Network, s *Spec) (Sample, error) {
	to, err := netip.ParseAddrPort(s.Addrs[0])
	if err != nil {
		return Sample{}, err
	}
	d, c, err := datagrams(n, net.JoinHostPort(s.Local, "0"))
	if err != nil {
		return Sample{}, err
	}
	defer c.Close()
	growBuffers(c)
	clk := NewClock(s)
	var dl deadline
	var lost int64
	b, in := make([]byte, s.Size), make([]byte, 1<<16)
	start := time.Now()
	for i := byte(0); ; i++ {
		if err := dl.extend(start, patience, c.SetReadDeadline); err != nil {
			return Sample{}, err
		}
		b[0] = i
		if _, err := d.WriteToUDPAddrPort(b, to); err != nil {
			return Sample{}, fmt.Errorf("write after %d round trips: %w", clk.all, err)
		}
		k, err := awaitDatagram(d, in, i)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			// A datagram may be lost, and its answer may still come.
			lost++
			dl = deadline{}
			if lost > 5 {
				return Sample{}, fmt.Errorf("%d datagrams without an answer in %v, %d answered", lost, patience, clk.all)
			}
		case err != nil:
			return Sample{}, fmt.Errorf("read after %d round trips: %w", clk.all, err)
		case k != s.Size:
			return Sample{}, fmt.Errorf("an answer of %d bytes to one of %d", k, s.Size)
		default:
			if !clk.Op(start, now) {
				sm, err := clk.Sample()
				sm.Lost, sm.Bytes = lost, sm.Ops*int64(s.Size)
				sm.Path, sm.Counters = n.Path(c), n.Counters()
				return sm, err
			}
		}
		start = now
	}
}

// awaitDatagram reads until the answer number i.
func awaitDatagram(d Datagrams, in []byte, i byte) (int, error) {
	for {
		k, _, err := d.ReadFromUDPAddrPort(in)
		if err != nil || k > 0 && in[0] == i {
			return k, err
		}
	}
}
