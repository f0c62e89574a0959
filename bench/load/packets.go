package load

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// servePackets counts datagrams. The rate is the receiver's, from the first
// datagram after the warm-up to the last.
func servePackets(n Network, s *Spec) (*Server, error) {
	d, c, err := datagrams(n, net.JoinHostPort(s.Local, "0"))
	if err != nil {
		return nil, err
	}
	growBuffers(c)
	var m since
	done := make(chan Sample, 1)
	go func() {
		var sm Sample
		var from, last time.Time
		b := make([]byte, 1<<16)
		for {
			k, _, err := d.ReadFromUDPAddrPort(b)
			if err != nil {
				break
			}
			now := time.Now()
			if from.IsZero() {
				m.begin()
				from = now.Add(s.Warm)
			}
			sm.AllOps++
			if now.After(from) {
				sm.Ops++
				sm.Bytes += int64(k)
				last = now
			}
		}
		if sm.Ops > 0 {
			sm.Seconds = last.Sub(from).Seconds()
		}
		done <- sm
	}()
	return &Server{Addrs: []string{c.LocalAddr().String()}, Path: n.Path(c), Stop: func() (Sample, error) {
		cpu, counters := m.spent(), n.Counters()
		if err := c.Close(); err != nil {
			return Sample{}, err
		}
		sm := <-done
		sm.CPU, sm.Counters = cpu, counters
		if sm.Ops == 0 {
			return sm, errors.New("no datagram came")
		}
		return sm, nil
	}}, nil
}

func callPackets(n Network, s *Spec) (Sample, error) {
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
	var m since
	m.begin()
	var sm Sample
	b := make([]byte, s.Size)
	for end := time.Now().Add(s.Warm + s.Duration); time.Now().Before(end); {
		switch _, err := d.WriteToUDPAddrPort(b, to); {
		case err == nil:
			sm.Sent++
		case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EAGAIN):
			// The queue is full: try again.
		default:
			return sm, err
		}
	}
	sm.CPU = m.spent()
	sm.Path, sm.Counters = n.Path(c), n.Counters()
	return sm, nil
}
