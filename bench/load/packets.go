package load

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// clockEvery is the number of datagrams between two looks at the clock: a batch
// on raw frames. A look takes a tenth of a datagram's time.
const clockEvery = 64

// servePackets counts datagrams. The rate is the receiver's, from the end of
// the warm-up to the last look at the clock.
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
		var first int64 // datagrams at from, the first look at the clock after the warm-up
		b := make([]byte, 1<<16)
		for {
			k, _, err := d.ReadFromUDPAddrPort(b)
			if err != nil {
				break
			}
			if sm.AllOps++; sm.AllOps%clockEvery != 1 {
				continue
			}
			now := time.Now()
			if from.IsZero() {
				m.begin()
				from = now.Add(s.Warm)
			}
			switch {
			case now.Before(from):
			case first == 0:
				first, from = sm.AllOps, now
			default:
				sm.Ops = sm.AllOps - first
				sm.Bytes = sm.Ops * int64(k)
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
	end := time.Now().Add(s.Warm + s.Duration)
	for i := 0; i%clockEvery != 0 || time.Now().Before(end); i++ {
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
