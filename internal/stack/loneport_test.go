package stack

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// flowSteering records which flows are steered.
type flowSteering struct {
	noSteering
	flows map[[2]netip.AddrPort]int
}

func (s *flowSteering) AddFlow(_ uint8, local, remote netip.AddrPort, _ bool) error {
	s.flows[[2]netip.AddrPort{local, remote}]++
	return nil
}

func (s *flowSteering) RemoveFlow(_ uint8, local, remote netip.AddrPort) error {
	f := [2]netip.AddrPort{local, remote}
	if s.flows[f]--; s.flows[f] == 0 {
		delete(s.flows, f)
	}
	return nil
}

// rangedPorts is a kernel that gives out its range once, and whose port 5000 is taken.
type rangedPorts struct {
	low, high uint16
	next      uint16
}

func (k *rangedPorts) Hold(_ uint8, addr netip.AddrPort) (control.Held, error) {
	if addr.Port() == 5000 || addr.Port() == 0 && k.next > k.high {
		return control.Held{}, syscall.EADDRINUSE
	}
	h := control.Held{Port: addr.Port()}
	if h.Port == 0 {
		h.Port = k.next
		k.next++
	}
	return h, nil
}

func (k *rangedPorts) HoldShared(p uint8, addr netip.AddrPort) (control.Held, error) {
	return k.Hold(p, addr)
}

func (k *rangedPorts) Ephemeral() (low, high uint16, err error) { return k.low, k.high, nil }

// Lone ports are outside of the kernel's range, and nobody is bound to them. They
// are steered with their peer as long as they are in use, and come in no order that
// can be guessed (RFC 6056).
func TestLonePorts(t *testing.T) {
	for _, r := range []struct{ low, high uint16 }{{32768, 60999}, {1024, 60999}, {10000, 65535}} {
		steer := &flowSteering{flows: map[[2]netip.AddrPort]int{}}
		kernel := &rangedPorts{low: r.low, high: r.high, next: r.low}
		pt := newPortTable(kernel, steer, 1)
		pt.most, pt.shareFrom, pt.enough = 10, 10, 10
		local, remote := netip.AddrPortFrom(addrA, 0), netip.AddrPortFrom(addrB, 80)
		used := map[uint16]*port{}
		taken := func(l, _ netip.AddrPort, _ int64) bool { return used[l.Port()] != nil }
		const n = 2000
		lone, up, low := 0, 0, 0
		last := uint16(0)
		for range n {
			p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, taken)
			if err != nil {
				t.Fatal(err)
			}
			if used[p.number] != nil {
				t.Fatalf("port %d twice", p.number)
			}
			used[p.number] = p
			if !p.remote.IsValid() {
				continue
			}
			lone++
			if p.number < 1024 || p.number >= r.low && p.number <= r.high || p.number == 5000 {
				t.Fatalf("lone port %d, where the kernel has %d to %d", p.number, r.low, r.high)
			}
			if p.number > last {
				up++
			}
			if p.number < 1024+(r.low-1024)/2 {
				low++
			}
			last = p.number
		}
		if lone != n-10 || len(steer.flows) != lone {
			t.Errorf("range %v: %d lone ports, %d flows, want %d", r, lone, len(steer.flows), n-10)
		}
		// Both have a deviation of 22.
		if up < n/2-150 || up > n/2+150 {
			t.Errorf("range %v: %d of %d are higher than the one before", r, up, n)
		}
		if r.high == 65535 && (low < n/2-150 || low > n/2+150) {
			t.Errorf("range %v: %d of %d are in the lower half", r, low, n)
		}
		for number, p := range used {
			if number%2 == 0 {
				pt.release(p)
				delete(used, number)
			}
		}
		for f := range steer.flows {
			if used[f[0].Port()] == nil {
				t.Errorf("%v is steered still", f)
			}
		}
		pt.close()
		if len(steer.flows) != 0 || len(pt.lone) != 0 || pt.held != 0 {
			t.Errorf("left: %d flows, %d lone ports, %d descriptors", len(steer.flows), len(pt.lone), pt.held)
		}
	}
}

// Where the kernel's range leaves next to nothing, there are no lone ports, and
// the kernel's error is the user's.
func TestFewLonePorts(t *testing.T) {
	kernel := &rangedPorts{low: 1100, high: 65400, next: 65400}
	pt := newPortTable(kernel, noSteering{}, 1)
	pt.most, pt.shareFrom = 0, 1
	local, remote := netip.AddrPortFrom(addrA, 0), netip.AddrPortFrom(addrB, 80)
	taken := func(netip.AddrPort, netip.AddrPort, int64) bool { return false }
	if p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, taken); err != nil || p.remote.IsValid() {
		t.Errorf("%+v, %v: want a port of the kernel's", p, err)
	}
	taken = func(netip.AddrPort, netip.AddrPort, int64) bool { return true }
	if p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, taken); err != syscall.EADDRINUSE {
		t.Errorf("%+v, %v: want the kernel's error", p, err)
	}
}

// stalePorts is a kernel that gives a port first which the table has.
type stalePorts struct {
	rangedPorts
	first uint16
}

func (k *stalePorts) Hold(proto uint8, addr netip.AddrPort) (control.Held, error) {
	if f := k.first; f != 0 && addr.Port() == 0 {
		k.first = 0
		return control.Held{Port: f}, nil
	}
	return k.rangedPorts.Hold(proto, addr)
}

// A port that the kernel may give away, while connections of a closed listener have
// it, is no error for a caller that asks for any port.
func TestReserveAgain(t *testing.T) {
	pt := newPortTable(&stalePorts{rangedPorts{32768, 60999, 32768}, 8080}, noSteering{}, 1)
	if _, err := pt.bindLocal(ip.ProtoTCP, netip.AddrPortFrom(addrA, 8080), true, control.Sharing{}); err != nil {
		t.Fatal(err)
	}
	p, err := pt.bindLocal(ip.ProtoTCP, netip.AddrPortFrom(addrA, 0), false, control.Sharing{})
	if err != nil || p.number != 32768 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Where no port is left a dial fails as connect(2) does, not as bind(2).
func TestDialWithoutPorts(t *testing.T) {
	a, _ := newPair(t, pairOptions{})
	a.ports.kernel = &rangedPorts{low: 1024, high: 65534, next: 65535}
	if c, err := a.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addrB, 80), nil); err != syscall.EADDRNOTAVAIL {
		t.Errorf("%v, %v", c, err)
	}
}
