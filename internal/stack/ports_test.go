package stack

import (
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

type noSteering struct{}

func (noSteering) AddPort(uint8, netip.AddrPort) error                       { return nil }
func (noSteering) RemovePort(uint8, netip.AddrPort) error                    { return nil }
func (noSteering) AddFlow(uint8, netip.AddrPort, netip.AddrPort, bool) error { return nil }
func (noSteering) RemoveFlow(uint8, netip.AddrPort, netip.AddrPort) error    { return nil }

// Ports of ended connections are used again when there are many, the older ones
// first. Until then a program that connects repeatedly has a new one each time (RFC
// 6056).
func TestPortPool(t *testing.T) {
	pt := newPortTable(nil, noSteering{}, 1)
	local, remote := netip.AddrPortFrom(addrA, 0), netip.AddrPortFrom(addrB, 80)
	var asked []int64
	free := func(_, _ netip.AddrPort, age int64) bool {
		asked = append(asked, age)
		return false
	}
	bind := func() *port {
		t.Helper()
		p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, free)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	age := map[*port]int{}
	for i := range idleLeast / 2 {
		p := bind()
		if _, ok := age[p]; ok {
			t.Fatalf("connection %d has the port of an earlier one", i)
		}
		age[p] = i
		pt.release(p)
	}
	var all []*port
	for range idleLeast - len(age) {
		all = append(all, bind())
	}
	for i, p := range all {
		pt.release(p)
		age[p] = idleLeast/2 + i
	}
	chosen := map[*port]bool{}
	asked = nil
	for i := range 2000 {
		p := bind()
		at, ok := age[p]
		if !ok {
			t.Fatalf("a new port, with %d idle", idleLeast)
		}
		if at > i+idleLeast/4 {
			t.Fatalf("use %d is of the port released as number %d", i, at)
		}
		if asked[i] != reuseSoon {
			t.Fatalf("wants TIME-WAIT to be %d ns old", asked[i])
		}
		pt.release(p)
		age[p] = i + idleLeast
		chosen[p] = true
	}
	if len(chosen) < idleLeast*9/10 {
		t.Errorf("2000 connections used %d of %d ports", len(chosen), idleLeast)
	}

	// All in TIME-WAIT: another one.
	n := 0
	busy := func(_, _ netip.AddrPort, _ int64) bool { n++; return n <= portTries }
	if p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, busy); err != nil || age[p] != 0 {
		t.Errorf("%+v, %v; want a new port", p, err)
	}
}

// fewPorts is a kernel that has so many ports.
type fewPorts int

func (k *fewPorts) Hold(_ uint8, addr netip.AddrPort) (control.Held, error) {
	if *k == 0 {
		return control.Held{}, syscall.EMFILE
	}
	*k--
	return control.Held{Port: 40000 + uint16(*k)}, nil
}

func (k *fewPorts) HoldShared(p uint8, addr netip.AddrPort) (control.Held, error) {
	return k.Hold(p, addr)
}

func (k *fewPorts) Ephemeral() (low, high uint16, err error) { return 1024, 65535, nil }

// Connections to different peers share ports when there are many, all of them
// when no more can be had; those to one peer never do.
func TestPortShared(t *testing.T) {
	kernel := fewPorts(40)
	pt := newPortTable(&kernel, noSteering{}, 1)
	pt.enough, pt.shareFrom = 20, 20
	local := netip.AddrPortFrom(addrA, 0)
	type flow struct{ local, remote netip.AddrPort }
	flows := map[flow]*port{}
	taken := func(local, remote netip.AddrPort, _ int64) bool { return flows[flow{local, remote}] != nil }
	bind := func(peer uint16) error {
		remote := netip.AddrPortFrom(addrB, peer)
		p, err := pt.bind(ip.ProtoTCP, local, remote, control.Sharing{}, taken)
		if err != nil {
			return err
		}
		f := flow{p.addr(), remote}
		if flows[f] != nil {
			t.Fatalf("%v twice", f)
		}
		flows[f] = p
		return nil
	}
	used := func() int { return 40 - int(kernel) }
	for range 20 {
		if err := bind(1); err != nil {
			t.Fatal(err)
		}
	}
	if used() != 20 {
		t.Errorf("%d ports for 20 connections, which are not many", used())
	}
	for range 10 {
		if err := bind(2); err != nil {
			t.Fatal(err)
		}
	}
	if used() > 23 {
		t.Errorf("%d ports for 20 connections and 10 to another peer", used())
	}
	for peer := uint16(1); peer <= 4; peer++ {
		for bind(peer) == nil {
		}
	}
	if len(flows) != 4*40 {
		t.Errorf("%d connections to 4 peers over 40 ports", len(flows))
	}
	if err := bind(1); err != syscall.EMFILE {
		t.Errorf("%v where nothing is left, want the kernel's error", err)
	}
	for f, p := range flows {
		if f.remote.Port() != 1 {
			pt.release(p)
		}
	}
	if sp := flows[flow{netip.AddrPortFrom(addrA, 40000), netip.AddrPortFrom(addrB, 1)}].space; len(sp.idle) != 0 || len(sp.pool) != 40 {
		t.Errorf("%d idle of %d, all of which have a connection", len(sp.idle), len(sp.pool))
	}
	for f, p := range flows {
		if f.remote.Port() == 1 {
			pt.release(p)
		}
	}
	sp := pt.spaces[localAddr{ip.ProtoTCP, addrA}]
	if len(sp.idle) != 20 || len(sp.pool) != 20 || len(sp.used) != 20 {
		t.Errorf("%d idle, %d in the pool, %d reserved; want 20", len(sp.idle), len(sp.pool), len(sp.used))
	}
	for i, p := range sp.pool {
		if int(p.pos) != i+1 {
			t.Errorf("the port at %d has its place at %d", i, p.pos)
		}
	}
	pt.close()
	if len(pt.spaces) != 0 {
		t.Error("ports are left")
	}
}

// Dialers that choose the same port for the same peer at the same time all get
// a connection.
func TestPortSharedRace(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	a.ports.enough, a.ports.shareFrom = 1, 1
	const peers, each = 40, 10
	var mu sync.Mutex
	ports := map[uint16]bool{}
	dial := func(port uint16) {
		c, err := a.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addrB, port), nil)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		mu.Lock()
		ports[c.LocalAddr().Port()] = true
		mu.Unlock()
	}
	for i := range uint16(peers + 1) {
		l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 80+i), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	dial(80 + peers)
	var wg sync.WaitGroup
	for i := range uint16(peers) {
		for range each {
			wg.Go(func() { dial(80 + i) })
		}
	}
	wg.Wait()
	if n := peers*each + 1; len(ports) > n*3/4 {
		t.Errorf("%d ports for %d connections to %d peers", len(ports), n, peers+1)
	}
}

// Where no kernel chooses, two never get the same port.
func TestPickRace(t *testing.T) {
	pt := newPortTable(nil, noSteering{}, 1)
	local := netip.AddrPortFrom(addrA, 0)
	const workers, each = 8, (ephemeralMax - ephemeralMin + 1) / 8
	errs := make(chan error, workers)
	for range workers {
		go func() {
			for range each {
				if _, err := pt.bindLocal(ip.ProtoTCP, local, false, control.Sharing{}); err != nil {
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
	if _, err := pt.bindLocal(ip.ProtoTCP, local, false, control.Sharing{}); err == nil {
		t.Error("a port more than there are")
	}
}
