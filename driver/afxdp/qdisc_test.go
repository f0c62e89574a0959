package afxdp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
)

// setQdisc makes a discipline of that kind the root of ns's interface, or takes
// it away.
func setQdisc(t *testing.T, ns *lab.NS, kind string, add bool) {
	t.Helper()
	q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ns.Index, Parent: netlink.HANDLE_ROOT}, QdiscType: kind}
	if add {
		must(t, ns.Netlink().QdiscReplace(q))
	} else {
		must(t, ns.Netlink().QdiscDel(q))
	}
}

// passed counts the packets that went through the root discipline.
func passed(t *testing.T, ns *lab.NS) (n int) {
	t.Helper()
	l, err := ns.Netlink().LinkByIndex(ns.Index)
	must(t, err)
	all, err := ns.Netlink().QdiscList(l)
	must(t, err)
	for _, q := range all {
		if s := q.Attrs().Statistics; s != nil && s.Basic != nil && q.Attrs().Parent == netlink.HANDLE_ROOT {
			n += int(s.Basic.Packets)
		}
	}
	return n
}

// onRings counts the Descs that d has put on its transmit rings.
func onRings(d *Device) (n uint32) {
	for _, q := range d.queues.all() {
		n += q.txProd
	}
	return n
}

func waitRuled(t *testing.T, d *Device, want bool) {
	t.Helper()
	for start := time.Now(); d.ruled.Load() != want; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("ruled is not %v", want)
		}
	}
}

// TestQdisc: packets pass a queueing discipline that is there at the start or
// comes later, on every queue, and the ring when it has gone.
func TestQdisc(t *testing.T) {
	for _, tt := range []struct {
		name   string
		queues int
		first  bool
	}{{"before", 1, true}, {"later", 1, false}, {"queues", 4, false}} {
		t.Run(tt.name, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Neighbors: true, Queues: tt.queues})
			if tt.first {
				setQdisc(t, p.A, "pfifo", true)
			}
			a, b := openAt(t, p.A, Config{Frames: 2048, RxRing: 256}), openAt(t, p.B, Config{Frames: 2048, RxRing: 256})
			must(t, b.AddPort(udp, netip.AddrPortFrom(p.B.Addr4, 9)))
			frame := datagram(v4of(p.A), v4of(p.B), 9, 9, pattern(100))
			exchange := func() {
				t.Helper()
				for _, q := range a.queues.all() {
					send(t, a, q, frame)
				}
				got := 0
				for start := time.Now(); got < len(a.queues.all()); {
					for _, q := range b.queues.all() {
						if f, _ := receive(t, b, q, time.Millisecond); f != nil {
							got++
						}
					}
					if time.Since(start) > time.Minute {
						t.Fatalf("%d of %d arrived", got, len(a.queues.all()))
					}
				}
			}
			if !tt.first {
				exchange()
				setQdisc(t, p.A, "pfifo", true)
			}
			waitRuled(t, a, true)
			before, posted := passed(t, p.A), onRings(a)
			exchange()
			// The kernel's own packets, such as reports of IPv6 groups, pass it too.
			if n := passed(t, p.A) - before; n < tt.queues {
				t.Errorf("%d packets passed the discipline, want %d", n, tt.queues)
			}
			if n := onRings(a) - posted; n != 0 {
				t.Errorf("%d packets left by the rings", n)
			}
			setQdisc(t, p.A, "pfifo", false)
			waitRuled(t, a, false)
			posted = onRings(a)
			exchange()
			if n := int(onRings(a) - posted); n != tt.queues {
				t.Errorf("%d packets left by the rings, want %d", n, tt.queues)
			}
		})
	}
}
