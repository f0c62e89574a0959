package load

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// perListener bounds the connections to one address and port. Each takes a port of
// the client's, which is a descriptor if the port is onload's.
const perListener = 5000

// kept is how many of s.Conns connections go to listener i of n.
func kept(s *Spec, i, n int) int { return (s.Conns + n - 1 - i) / n }

// serveIdle accepts connections and keeps them. Each listener writes a byte to the
// one behind its last, from which the client learns that all are accepted.
func serveIdle(n Network, s *Spec) (*Server, error) {
	srv := &Server{}
	var accepted atomic.Int64
	var ls []net.Listener
	for range (s.Conns + perListener - 1) / perListener {
		l, err := n.Listen("tcp", net.JoinHostPort(s.Local, "0"))
		if err != nil {
			return nil, err
		}
		ls = append(ls, l)
		srv.Addrs = append(srv.Addrs, l.Addr().String())
	}
	srv.Path = n.Path(ls[0])
	conns := make([][]net.Conn, len(ls)) // allocated before the first reading
	for i := range conns {
		conns[i] = make([]net.Conn, kept(s, i, len(ls)))
	}
	before := Memory()
	for i, l := range ls {
		go func() {
			for k := range conns[i] {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns[i][k] = c
				accepted.Add(1)
			}
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write([]byte{1}) // the client says what it lacks
				c.Close()
			}
		}()
	}
	srv.Stop = func() (Sample, error) {
		sm := perConn(before, Memory(), s.Conns)
		sm.Counters = n.Counters()
		if got := accepted.Load(); got != int64(s.Conns) {
			return sm, fmt.Errorf("%d connections accepted of %d", got, s.Conns)
		}
		runtime.KeepAlive(conns)
		return sm, nil
	}
	return srv, nil
}

func callIdle(n Network, s *Spec) (Sample, error) {
	before := Memory()
	begin := time.Now()
	cs, err := dialAll(n, s.Addrs, s.Conns)
	if err != nil {
		return Sample{}, err
	}
	took := time.Since(begin)
	if err := awaitAccepts(n, s.Addrs); err != nil {
		return Sample{}, err
	}
	sm := perConn(before, Memory(), s.Conns)
	sm.Ops, sm.Seconds = int64(s.Conns), took.Seconds()
	sm.Path, sm.Counters = n.Path(cs[0]), n.Counters()
	runtime.KeepAlive(cs)
	return sm, nil
}

// awaitAccepts waits until the listeners have accepted all.
func awaitAccepts(n Network, addrs []string) error {
	for _, a := range addrs {
		c, err := n.Dial("tcp", a)
		if err != nil {
			return err
		}
		err = c.SetReadDeadline(time.Now().Add(hung))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		c.Close()
		if err != nil {
			return fmt.Errorf("waiting until all are accepted: %w", err)
		}
	}
	return nil
}

// Footprint is the memory of a process in bytes: the Go heap with stacks, and
// the resident set.
type Footprint struct{ Heap, RSS float64 }

// Memory returns this process's footprint now.
func Memory() Footprint {
	runtime.GC()
	runtime.GC() // finalizers of the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := Footprint{Heap: float64(m.HeapAlloc + m.StackInuse)}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fs := bytes.Fields(b); len(fs) > 1 {
			pages, _ := strconv.ParseFloat(string(fs[1]), 64)
			f.RSS = pages * float64(os.Getpagesize())
		}
	}
	return f
}

func perConn(before, after Footprint, conns int) Sample {
	return Sample{HeapPerConn: (after.Heap - before.Heap) / float64(conns), RSSPerConn: (after.RSS - before.RSS) / float64(conns)}
}
