package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// chunk is what one Write or Read of a bulk stream carries.
const chunk = 64 << 10

// drain reads to the end and counts the bytes after the warm-up: the figure is
// the receiving application's.
func drain(c net.Conn, s *Spec, m *since) (Sample, error) {
	var sm Sample
	var from, last time.Time
	b := make([]byte, chunk)
	var dl deadline
	for {
		now := time.Now()
		if err := dl.extend(now, hung, c.SetReadDeadline); err != nil {
			return sm, err
		}
		k, err := c.Read(b)
		now = time.Now()
		if k > 0 && from.IsZero() {
			m.begin()
			from = now.Add(s.Warm)
		}
		sm.AllOps += int64(k)
		if k > 0 && now.After(from) {
			sm.Bytes += int64(k)
			last = now
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return sm, fmt.Errorf("read after %d bytes: %w", sm.AllOps, err)
		}
	}
	if sm.Bytes == 0 {
		return sm, fmt.Errorf("only %d bytes came", sm.AllOps)
	}
	sm.Seconds, sm.Ops = last.Sub(from).Seconds(), sm.Bytes
	return sm, nil
}

// fill writes for as long as the case lasts and then ends the stream.
func fill(c net.Conn, s *Spec, m *since) error {
	m.begin()
	b := make([]byte, chunk)
	var dl deadline
	end := time.Now().Add(s.Warm + s.Duration)
	for n := 0; ; n += len(b) {
		now := time.Now()
		if !now.Before(end) {
			break
		}
		if err := dl.extend(now, hung, c.SetWriteDeadline); err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("write after %d bytes: %w", n, err)
		}
	}
	w, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T has no CloseWrite", c)
	}
	return w.CloseWrite()
}

func serveBulk(n Network, s *Spec) (*Server, error) {
	l, err := n.Listen("tcp", net.JoinHostPort(s.Local, "0"))
	if err != nil {
		return nil, err
	}
	type outcome struct {
		sm  Sample
		err error
	}
	done := make(chan outcome, 1)
	var m since
	go func() {
		var o outcome
		defer func() { done <- o }()
		c, err := l.Accept()
		if err != nil {
			o.err = err
			return
		}
		defer c.Close()
		if s.Down {
			if o.err = fill(c, s, &m); o.err == nil {
				// The client closes when it has everything. If we closed at once,
				// the connection might be reset.
				_ = c.SetReadDeadline(time.Now().Add(hung))
				_, _ = c.Read(make([]byte, 1))
			}
		} else {
			o.sm, o.err = drain(c, s, &m)
		}
		o.sm.CPU = m.spent()
	}()
	return &Server{Addrs: []string{l.Addr().String()}, Path: n.Path(l), Stop: func() (Sample, error) {
		defer l.Close()
		select {
		case o := <-done:
			o.sm.Counters = n.Counters()
			return o.sm, o.err
		case <-time.After(2 * hung):
			return Sample{Counters: n.Counters()}, errors.New("the stream did not end")
		}
	}}, nil
}

func callBulk(n Network, s *Spec) (sm Sample, err error) {
	c, err := n.Dial("tcp", s.Addrs[0])
	if err != nil {
		return sm, err
	}
	defer c.Close()
	var m since
	if s.Down {
		sm, err = drain(c, s, &m)
	} else if err = fill(c, s, &m); err == nil {
		// Until the server has all and closes.
		_ = c.SetReadDeadline(time.Now().Add(2 * hung))
		if _, rerr := c.Read(make([]byte, 1)); rerr != io.EOF {
			err = fmt.Errorf("after the last byte: %w", rerr)
		}
	}
	sm.CPU = m.spent()
	sm.Path, sm.Counters = n.Path(c), n.Counters()
	return sm, err
}
