package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

var (
	changesSeed  = flag.Uint64("changes.seed", 0, "the seed of TestRandomChanges; 0: a fixed one, with -long one of the clock")
	changesCount = flag.Int("changes.count", 0, "changes that TestRandomChanges makes; 0: the form's own number")
	changesOnly  = flag.String("changes.only", "", "kinds of changes that TestRandomChanges makes, by commas; empty: all")
)

// parley is talkers of both kinds, in pairs: what the engine's do, the kernel's do too.
type parley struct {
	u    *uplinks
	all  []*talker
	echo map[netip.Addr]string // UDP in R
}

// newParley starts n conversations of the engine's, and as many of the kernel's.
func newParley(t *testing.T, u *uplinks, n int) *parley {
	t.Helper()
	p := &parley{u: u, echo: map[netip.Addr]string{}}
	hosts := []host{engineHost{u.engine}, kernelHost{u.A}}
	kinds := []func(host, bool, int) (*talker, error){p.dialed, p.accepted, p.connected, p.bound}
	for i := range n {
		for _, h := range hosts {
			v6 := i/len(kinds)%2 == 1
			k, err := kinds[i%len(kinds)](h, v6, i)
			if err != nil {
				t.Fatal(err)
			}
			_, k.ours = h.(engineHost)
			p.all = append(p.all, k)
		}
	}
	t.Cleanup(p.close)
	return p
}

func (p *parley) close() {
	for _, k := range p.all {
		k.near.Close()
		k.far.Close()
	}
}

func family(v6 bool) string { return map[bool]string{false: "v4", true: "v6"}[v6] }

// service is A's own address, on lo.
func service(v6 bool) netip.Addr {
	return netip.MustParseAddr(map[bool]string{false: "10.98.0.1", true: "fd98::1"}[v6])
}

func newTalker(format string, args ...any) *talker {
	return &talker{name: fmt.Sprintf(format, args...), errs: map[string]int{}}
}

// local is an address for the i-th conversation: none, or A's service address.
func local(v6 bool, i int) (a netip.Addr, name string) {
	if i/8%2 == 0 {
		return service(v6), "the service address"
	}
	if v6 {
		return netip.IPv6Unspecified(), "any"
	}
	return netip.IPv4Unspecified(), "any"
}

// dialed is a TCP connection from A to one of R's networks.
func (p *parley) dialed(h host, v6 bool, i int) (*talker, error) {
	from, name := local(v6, i)
	k := newTalker("TCP %s dialed from %s", family(v6), name)
	l, err := p.u.R.Listen("tcp", netip.AddrPortFrom(far(v6, i+1), 0).String())
	if err != nil {
		return nil, err
	}
	k.far = l
	c, err := h.dial("tcp", from, l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("%v: %w", k, err)
	}
	k.near = c
	s, err := l.Accept()
	if err != nil {
		return nil, err
	}
	l.Close()
	k.far = s
	go k.echoTCP(s, false)
	go k.askTCP(c, true)
	return k, nil
}

// accepted is a TCP connection from R to a listener in A.
func (p *parley) accepted(h host, v6 bool, i int) (*talker, error) {
	at, name := service(v6), "the service address"
	if i/8%2 == 1 {
		at, name = addrOf(p.u.a[i/16%2], v6), "a link's address"
	}
	k := newTalker("TCP %s accepted at %s", family(v6), name)
	l, err := h.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	c, err := p.u.dialFrom(far(v6, i+1), netip.AddrPortFrom(at, uint16(l.Addr().(*net.TCPAddr).Port)).String())
	if err != nil {
		return nil, fmt.Errorf("%v: %w", k, err)
	}
	k.far = c
	s, err := l.Accept()
	if err != nil {
		return nil, err
	}
	k.near = s
	go k.echoTCP(s, true)
	go k.askTCP(c, false)
	return k, nil
}

// connected is a connected UDP socket in A.
func (p *parley) connected(h host, v6 bool, i int) (*talker, error) {
	from, name := local(v6, i)
	k := newTalker("UDP %s connected from %s", family(v6), name)
	e, err := p.u.R.ListenPacket("udp", netip.AddrPortFrom(far(v6, i+1), 0).String())
	if err != nil {
		return nil, err
	}
	k.far = e
	c, err := h.dial("udp", from, e.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("%v: %w", k, err)
	}
	k.near = c
	go k.echoUDP(e, false)
	go k.askUDP(c, true)
	return k, nil
}

// bound is a UDP socket in A on all addresses, which is asked at the address of a
// link, or one that is bound to the service address.
func (p *parley) bound(h host, v6 bool, i int) (*talker, error) {
	link := p.u.a[i/16%2]
	at, from, name := service(v6), far(v6, i+1), "the service address"
	bind := at.String()
	if i/8%2 == 1 {
		at, from, name = addrOf(link, v6), addrOf(p.u.r[i/16%2], v6), "all addresses"
		bind = ""
	}
	k := newTalker("UDP %s bound to %s", family(v6), name)
	e, err := h.ListenPacket("udp", net.JoinHostPort(bind, "0"))
	if err != nil {
		return nil, err
	}
	k.near = e
	c, err := kernelHost{p.u.R}.dial("udp", from, netip.AddrPortFrom(at, uint16(e.LocalAddr().(*net.UDPAddr).Port)).String())
	if err != nil {
		return nil, err
	}
	k.far = c
	go k.echoUDP(e, true)
	go k.askUDP(c, false)
	return k, nil
}

// progress waits until each living conversation has had some more answers, and
// returns those that have none within the time.
func (p *parley) progress(within time.Duration) (stuck []*talker) {
	start := time.Now()
	was := make([]int64, len(p.all))
	for i, k := range p.all {
		was[i] = k.answers.Load()
	}
	for i, k := range p.all {
		for k.answers.Load() < was[i]+3 && k.dead() == nil {
			if time.Since(start) > within {
				stuck = append(stuck, k)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return stuck
}

// dead is why there will be no more answers, or nil.
func (k *talker) dead() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrong != nil {
		return k.wrong
	}
	return k.ended
}

// linuxErrors are those that Linux gives for the changes that are made, by
// protocol. Whether a socket sees one depends on whether it sends meanwhile, so the
// kernel's sockets need not have had each. A TCP connection sees none: where it
// cannot send it tries again (RFC 1122, section 4.2.3.9).
var linuxErrors = map[string][]string{
	"UDP": {
		"ENETUNREACH",   // no route
		"EHOSTUNREACH",  // an unreachable route, or a neighbour that does not answer
		"EACCES",        // a prohibit route or rule
		"EINVAL",        // a blackhole; a source that is no address of the host's (IPv4)
		"EADDRNOTAVAIL", // the same in IPv6
		"ENETDOWN",      // the link of the route is going down
		"EMSGSIZE",      // the path's MTU has become smaller
	},
}

// verdict lists what is wrong after the network has been mended.
func (p *parley) verdict() (faults []string) {
	for _, k := range p.progress(testlong.Pick(time.Minute, 4*time.Minute)) {
		faults = append(faults, fmt.Sprintf("%v: no answers after %d; %s", k, k.answers.Load(), k.path()))
	}
	known := map[string]bool{} // protocol and errno
	for protocol, names := range linuxErrors {
		for _, name := range names {
			known[protocol+" "+name] = true
		}
	}
	for _, k := range p.all {
		k.mu.Lock()
		if !k.ours {
			for name := range k.errs {
				known[k.name[:3]+" "+name] = true
			}
		}
		k.mu.Unlock()
	}
	for _, k := range p.all {
		k.mu.Lock()
		if k.wrong != nil {
			faults = append(faults, fmt.Sprintf("%v: %v", k, k.wrong))
		}
		if k.ended != nil && !known[k.name[:3]+" "+errno(k.ended)] {
			faults = append(faults, fmt.Sprintf("%v: ended: %v", k, k.ended))
		}
		if k.ours {
			for name, n := range k.errs {
				if !known[k.name[:3]+" "+name] {
					faults = append(faults, fmt.Sprintf("%v: %s, %d times", k, name, n))
				}
			}
		}
		k.mu.Unlock()
	}
	slices.Sort(faults)
	return faults
}

// errors lists the errors that sockets in A had, ours or the kernel's.
func (p *parley) errors(ours bool) string {
	count := map[string]int{}
	for _, k := range p.all {
		k.mu.Lock()
		for name, n := range k.errs {
			if k.ours == ours {
				count[k.name[:3]+" "+name] += n
			}
		}
		k.mu.Unlock()
	}
	return strings.TrimPrefix(fmt.Sprint(count), "map")
}

// TestRandomChanges: routes, addresses, links, neighbours, rules, nexthops,
// queueing disciplines and queues change at random while connections transfer over
// two links. Each goes on, or fails with an error that the kernel gives. The
// kernel's own sockets talk beside them. With -long it takes ten minutes.
func TestRandomChanges(t *testing.T) {
	seed := *changesSeed
	if seed == 0 {
		seed = testlong.Pick(1, uint64(time.Now().UnixNano()))
	}
	count := *changesCount
	if count == 0 {
		count = testlong.Pick(25, 6000)
	}
	t.Logf("-changes.seed=%d -changes.count=%d", seed, count)
	u := makeUplinks(t, changesLinks, onload.Config{Frames: 8192, RingSize: 512})
	w := &changes{t: t, u: u, r: rand.New(rand.NewPCG(seed, 0))}
	w.prepare()
	p := newParley(t, u, testlong.Pick(32, 100))
	if stuck := p.progress(patience); len(stuck) > 0 {
		t.Fatalf("before any change: %v", stuck)
	}
	end := time.Now().Add(10 * time.Minute)
	for n := 0; n < count && time.Now().Before(end); n++ {
		w.change()
		time.Sleep(time.Duration(w.r.IntN(200)) * time.Millisecond)
	}
	w.mend()
	faults := p.verdict()
	t.Logf("errors of ours %s; of the kernel's %s", p.errors(true), p.errors(false))
	if len(faults) > 0 {
		t.Errorf("%s\n%d changes, the last of them:\n%s", strings.Join(faults, "\n"), len(w.log), w.last(60))
	}
}
