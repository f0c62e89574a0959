package interop

import (
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// TestShortConns: connections opened, used and closed by the thousand leave
// nothing behind.
func TestShortConns(t *testing.T) {
	conns := testlong.Pick(2000, 20000)
	const workers = 16
	lab.NeedRoot(t)
	for _, p := range pairings {
		t.Run(p.name, func(t *testing.T) {
			pair, d, ls := ends(t, p, lab.Options{})
			l := listenOn(t, ls, pair.B.Addr4)
			go echoAll(l)
			trip(t, d, l.Addr().String()) // makes all that is made once
			before := take(d, ls)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range conns / workers {
						if !trip(t, d, l.Addr().String()) {
							return
						}
					}
				})
			}
			wg.Wait()
			// Only TIME-WAIT remains, which owns no frame.
			settled(t, hung, func() error { return take(d, ls).leaked(before) })
		})
	}
}

// trip makes a connection, echoes one byte and closes.
func trip(t *testing.T, d host, addr string) bool {
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return false
	}
	defer c.Close()
	b := []byte{7}
	if _, err := c.Write(b); err != nil {
		t.Error(err)
		return false
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Error(err)
		return false
	}
	return true
}

// holdings is what could leak.
type holdings struct {
	conns, goroutines int
	used              []int // frames in use, per stack
}

func take(hosts ...host) (h holdings) {
	h.goroutines = runtime.NumGoroutine()
	for _, x := range hosts {
		if e, ok := x.(*onload.Engine); ok {
			for _, s := range e.Stats() {
				h.conns += s.Conns
				h.used = append(h.used, s.Frames-s.FreeFrames)
			}
		}
	}
	return h
}

func (h holdings) leaked(before holdings) error {
	if h.conns > before.conns || h.goroutines > before.goroutines+2 {
		return fmt.Errorf("%+v left, %+v before", h, before)
	}
	for i, n := range h.used {
		if n > before.used[i] {
			return fmt.Errorf("stack %d: %d frames in use, %d before", i, n, before.used[i])
		}
	}
	return nil
}

// TestUndisturbed: kernel traffic over the same interface goes on while
// onload owns a port and uses it.
func TestUndisturbed(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	ol := listenOn(t, e, pair.A.Addr4)
	go echoAll(ol)
	kl, err := pair.A.Listen("tcp", netip.AddrPortFrom(pair.A.Addr4, 22).String())
	if err != nil {
		t.Fatal(err)
	}
	defer kl.Close()
	go echoAll(kl)
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { // onload's own traffic
		for {
			select {
			case <-stop:
				return
			default:
				if !trip(t, pair.B, ol.Addr().String()) {
					return
				}
			}
		}
	})
	ssh, err := pair.B.Dial("tcp", kl.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b := []byte{byte(i)}
		if _, err := ssh.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ssh, b); err != nil || b[0] != byte(i) {
			t.Fatal(b, err)
		}
	}
	for _, to := range []netip.Addr{pair.A.Addr4, pair.A.Addr6} {
		if err := pair.B.Ping(to); err != nil {
			t.Error(err)
		}
	}
	// Deleting the entry has the next packet resolve it again.
	if err := pair.B.DelNeighbor(pair.A.Addr4); err != nil {
		t.Log("no neighbour entry to delete:", err)
	}
	if !trip(t, pair.B, kl.Addr().String()) {
		t.Error("no connection after the neighbour entry was deleted")
	}
	close(stop)
	load.Wait()
}
