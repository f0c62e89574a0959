package raw

import (
	"errors"
	"fmt"
	"time"

	"github.com/onload-go/onload/bench/load"
)

// Supports reports whether c can be done with frames.
func Supports(c load.Case) bool {
	switch c.Workload {
	case load.TCPRTT, load.UDPRTT, load.Bulk, load.Packets:
		return true
	}
	return false
}

// Serve is load.Serve.
func Serve(c Config, s *load.Spec) (*load.Server, error) {
	e, err := open(c)
	if err != nil {
		return nil, err
	}
	type outcome struct {
		sm  load.Sample
		err error
	}
	done := make(chan outcome, 1)
	run := func() (load.Sample, error) {
		// The first frame says that the client is there. It alone is taken:
		// the next may be there already.
		if _, _, _, err := e.recvInto(e.rx[:1], time.Minute); err != nil {
			return load.Sample{}, err
		}
		if s.Workload == load.Bulk && s.Down {
			return e.flood(s, s.MTU-28)
		}
		if s.Workload == load.Bulk || s.Workload == load.Packets {
			return e.count(s)
		}
		return e.echo(s)
	}
	go func() {
		sm, err := run()
		done <- outcome{sm, err}
	}()
	return &load.Server{Path: e.path(), Stop: func() (load.Sample, error) {
		e.stop.Store(true)
		select {
		case o := <-done:
			return o.sm, o.err
		case <-time.After(2 * patience):
			return load.Sample{}, errors.New("raw: the server does not end")
		}
	}}, nil
}

// Call is load.Call.
func Call(c Config, s *load.Spec) (load.Sample, error) {
	e, err := open(c)
	if err != nil {
		return load.Sample{}, err
	}
	defer e.dev.Close()
	var sm load.Sample
	if err := e.message(1, 0); err != nil {
		return sm, err
	}
	switch {
	case s.Workload == load.Bulk && s.Down:
		sm, err = e.count(s)
	case s.Workload == load.Bulk:
		sm, err = e.flood(s, s.MTU-28)
	case s.Workload == load.Packets:
		sm, err = e.flood(s, s.Size)
	default:
		sm, err = e.pingPong(s)
	}
	sm.Path = e.path()
	return sm, err
}

// echo answers messages until it is stopped.
func (e *end) echo(s *load.Spec) (load.Sample, error) {
	var sm load.Sample
	begin := load.Spent()
	for k := e.packets(s.Size); ; {
		seq, err := e.await(k, time.Minute)
		if err == errSilence {
			sm.CPU = load.Spent().Sub(begin)
			return sm, nil
		}
		if err == nil {
			err = e.message(s.Size, seq)
		}
		if err != nil {
			return sm, err
		}
	}
}

func (e *end) pingPong(s *load.Spec) (load.Sample, error) {
	k := e.packets(s.Size)
	clk := load.NewClock(s)
	start := time.Now()
	for i := uint32(1); ; i++ {
		if err := e.message(s.Size, i); err != nil {
			return load.Sample{}, err
		}
		got, err := e.await(k, patience)
		if err != nil {
			return load.Sample{}, fmt.Errorf("round trip %d: %w", i, err)
		}
		if got != i {
			return load.Sample{}, fmt.Errorf("round trip %d: got frame %d", i, got)
		}
		now := time.Now()
		if !clk.Op(start, now) {
			break
		}
		start = now
	}
	sm, err := clk.Sample()
	sm.Bytes = sm.Ops * int64(s.Size)
	return sm, err
}

// flood sends packets of size bytes for as long as the case lasts.
func (e *end) flood(s *load.Spec, size int) (load.Sample, error) {
	const batch = 64
	begin := load.Spent()
	var sm load.Sample
	for end := time.Now().Add(s.Warm + s.Duration); time.Now().Before(end); {
		n := 0
		for ; n < batch && e.put(size, uint32(n)); n++ {
		}
		if err := e.flush(); err != nil {
			return sm, err
		}
		e.q.Reclaim()
		sm.Sent += int64(n)
	}
	sm.CPU = load.Spent().Sub(begin)
	return sm, nil
}

// silence is the time without frames after which a flood is over. The sender
// may lose its processor for a while.
const silence = 500 * time.Millisecond

// count receives until the flood is over.
func (e *end) count(s *load.Spec) (load.Sample, error) {
	var sm load.Sample
	begin := load.Spent()
	used := begin
	var from, last time.Time
	wait := patience
	for {
		packets, bytes, _, err := e.recv(wait)
		if err == errSilence && !from.IsZero() {
			break
		}
		if err != nil {
			return sm, err
		}
		now := time.Now()
		if from.IsZero() {
			from, wait = now.Add(s.Warm), silence
		}
		all := int64(packets)
		payload := int64(bytes - packets*(e.hdr.Len()+8))
		if s.Workload == load.Bulk {
			all = payload
		}
		sm.AllOps += all
		if now.After(from) {
			sm.Ops += all
			sm.Bytes += payload
		}
		// The wait at the end is not part of the work. A reading of the CPU
		// time is a system call: not for every batch.
		if now.Sub(last) > time.Millisecond {
			used = load.Spent()
		}
		last = now
	}
	sm.CPU = used.Sub(begin)
	if sm.Ops == 0 {
		return sm, errors.New("raw: no frame came")
	}
	sm.Seconds = last.Sub(from).Seconds()
	return sm, nil
}
