package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
)

type noSteering struct{}

func (noSteering) AddPort(uint8, netip.AddrPort) error                       { return nil }
func (noSteering) RemovePort(uint8, netip.AddrPort) error                    { return nil }
func (noSteering) AddFlow(uint8, netip.AddrPort, netip.AddrPort, bool) error { return nil }
func (noSteering) RemoveFlow(uint8, netip.AddrPort, netip.AddrPort) error    { return nil }

// Ports of ended connections are used again, the older ones first, and the
// sooner the more there are.
func TestPortPool(t *testing.T) {
	pt := newPortTable(nil, noSteering{})
	local, remote := netip.AddrPortFrom(addrA, 0), netip.AddrPortFrom(addrB, 80)
	var asked []int64
	free := func(_, _ netip.AddrPort, age int64) bool {
		asked = append(asked, age)
		return false
	}
	bind := func() *port {
		t.Helper()
		p, err := pt.bind(ip.ProtoTCP, local, remote, false, free)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var all []*port
	age := map[*port]int{}
	for range idleEnough {
		all = append(all, bind())
	}
	for i, p := range all {
		pt.release(p)
		age[p] = i
	}
	asked = nil
	for i := range 2000 {
		p := bind()
		at, ok := age[p]
		if !ok {
			t.Fatalf("a new port, with %d idle", len(all))
		}
		if at > i+idleEnough/4 {
			t.Fatalf("use %d is of the port released as number %d", i, at)
		}
		if asked[i] != reuseSoon {
			t.Fatalf("wants TIME-WAIT to be %d ns old", asked[i])
		}
		pt.release(p)
		age[p] = i + idleEnough
	}
	held := bind()
	asked = nil
	if p := bind(); asked[0] != reuseAfter {
		t.Errorf("with few idle, wants TIME-WAIT to be %d ns old", asked[0])
	} else {
		pt.release(p)
	}
	pt.release(held)

	// All in TIME-WAIT: another one.
	n := 0
	busy := func(_, _ netip.AddrPort, _ int64) bool { n++; return n <= portTries }
	if p, err := pt.bind(ip.ProtoTCP, local, remote, false, busy); err != nil || age[p] != 0 {
		t.Errorf("%+v, %v; want a new port", p, err)
	}
}

// Where no kernel chooses, two never get the same port.
func TestPickRace(t *testing.T) {
	pt := newPortTable(nil, noSteering{})
	local := netip.AddrPortFrom(addrA, 0)
	const workers, each = 8, (ephemeralMax - ephemeralMin + 1) / 8
	errs := make(chan error, workers)
	for range workers {
		go func() {
			for range each {
				if _, err := pt.bindLocal(ip.ProtoTCP, local, false, false); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, err := pt.bindLocal(ip.ProtoTCP, local, false, false); err == nil {
		t.Error("a port more than there are")
	}
}
