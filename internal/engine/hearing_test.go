package engine

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/internal/stack"
)

// countingKernel is a groupKernel whose links all take groups. It counts what it is
// asked; the hearers' lock guards it.
type countingKernel struct {
	taker    stack.Stack
	inodes   []uint64 // at every port
	links    int
	sockets  int
	steering map[groupAt]bool
}

func (k *countingKernel) takesGroups(int) *stack.Stack {
	k.links++
	return &k.taker
}

func (k *countingKernel) inodesAt(ports map[uint16]bool) (map[uint16][]uint64, error) {
	k.sockets++
	at := map[uint16][]uint64{}
	for p := range ports {
		at[p] = append([]uint64(nil), k.inodes...)
	}
	return at, nil
}

func (k *countingKernel) steer(_ *stack.Stack, g groupAt, ours bool) error {
	if k.steering == nil {
		k.steering = map[groupAt]bool{}
	}
	if k.steering[g] == ours {
		return fmt.Errorf("%v is %v already", g, ours)
	}
	k.steering[g] = ours
	return nil
}

// newHearers are hearers over k that look again only when the test says so.
func newHearers(t *testing.T, k *countingKernel) *hearers {
	hs := &hearers{k: k, log: zap.NewNop(), stop: make(chan struct{})}
	t.Cleanup(hs.close)
	return hs
}

// expect fails if k was asked for other than that many links and tables of sockets
// since the last call.
func (k *countingKernel) expect(t *testing.T, what string, links, sockets int) {
	t.Helper()
	if k.links != links || k.sockets != sockets {
		t.Errorf("%s: %d links and %d tables of sockets were read; want %d and %d", what, k.links, k.sockets, links, sockets)
	}
	k.links, k.sockets = 0, 0
}

var testGroup = netip.MustParseAddrPort("239.1.2.3:5353")

// TestHearersReads: what the kernel is asked does not grow with the sockets.
func TestHearersReads(t *testing.T) {
	const sockets = 100
	k := &countingKernel{}
	idle := newHearers(t, k)
	c := &Socket{}
	idle.set(c, &hearer{port: 5353, inode: 1, marked: true})
	idle.remove(c)
	k.expect(t, "a socket without groups", 0, 0)
	if idle.stop != nil {
		t.Error("watch runs without groups")
	}

	hs := newHearers(t, k)
	wants := []groupAt{{1, testGroup}, {2, testGroup}}
	hearing := func(i int) *hearer {
		return &hearer{port: 5353, inode: uint64(i + 1), wants: wants, marked: true}
	}
	var all []*Socket
	for i := range sockets {
		all = append(all, &Socket{})
		k.inodes = append(k.inodes, uint64(i+1))
		hs.set(all[i], hearing(i))
	}
	// A socket of others that was bound before one of ours must be seen each time.
	k.expect(t, "opening", 2, sockets)
	for i, c := range all {
		hs.set(c, hearing(i))
	}
	k.expect(t, "hearing the same", 0, 0)
	for _, g := range wants {
		if !k.steering[g] {
			t.Errorf("%v is not ours", g)
		}
	}
	const ticks = 3
	for range ticks {
		hs.decide(lookEverywhere)
	}
	k.expect(t, "ticks", 2*ticks, ticks)
	more := &hearer{port: 5353, inode: 1, wants: append(wants, groupAt{3, testGroup}), marked: true}
	hs.set(all[0], more)
	k.expect(t, "a group on another link", 3, 1)
	for _, c := range all {
		hs.remove(c)
	}
	k.expect(t, "closing", 0, 0)
	for g, on := range k.steering {
		if on {
			t.Errorf("%v is still ours", g)
		}
	}
	if hs.stop != nil {
		t.Error("watch runs without a hearer")
	}
}

// TestHearersOthers: a group is the kernel's while a socket of others has the port,
// also one that was bound between two looks, and a twin that the program keeps.
func TestHearersOthers(t *testing.T) {
	k := &countingKernel{}
	hs := newHearers(t, k)
	g := groupAt{1, testGroup}
	open := func(inode uint64) *Socket {
		c := &Socket{}
		k.inodes = append(k.inodes, inode)
		hs.set(c, &hearer{port: 5353, inode: inode, wants: []groupAt{g}, marked: true})
		return c
	}
	expect := func(what string, ours bool) {
		t.Helper()
		if k.steering[g] != ours {
			t.Errorf("%s: ours %v; want %v", what, k.steering[g], ours)
		}
	}
	a := open(1)
	expect("alone", true)
	k.inodes = append(k.inodes, 99)
	b := open(2)
	expect("another was bound before our second", false)
	k.inodes = []uint64{1, 2}
	hs.decide(lookEverywhere)
	expect("it is gone", true)
	hs.remove(b)
	expect("the program may keep the twin", false)
	k.inodes = []uint64{1}
	hs.decide(lookEverywhere)
	expect("the twin is closed", true)
	hs.set(a, &hearer{port: 5353, refused: true})
	expect("marking is refused", false)
}

// twinSocket is a Socket without an interface, and the twin of it, in a namespace.
func twinSocket(t *testing.T, k *countingKernel) (*Socket, *net.UDPConn, syscall.RawConn) {
	t.Helper()
	lab.NeedRoot(t)
	e := newEngine(Config{Logger: zap.NewNop()})
	var err error
	if e.ns, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.ns.Close() })
	e.hearers.k = k
	t.Cleanup(e.hearers.close)
	var twin *net.UDPConn
	if err := e.ns.Do(func() (err error) {
		twin, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(testGroup.Port())})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { twin.Close() })
	raw, err := twin.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c := &Socket{e: e, at: netip.AddrPortFrom(netip.IPv4Unspecified(), testGroup.Port())}
	c.twin, c.opts.GroupsOnly = true, true
	c.parts.Store(&parts{})
	return c, twin, raw
}

func join(t *testing.T, twin *net.UDPConn, group netip.Addr) {
	t.Helper()
	lo := &net.Interface{Index: 1}
	if err := ipv4.NewPacketConn(twin).JoinGroup(lo, net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, 0))); err != nil {
		t.Fatal(err)
	}
}

// TestHearUnprivileged: a socket that cannot be marked opens, says why its groups
// are the kernel's, and gets them back with the privilege.
func TestHearUnprivileged(t *testing.T) {
	k := &countingKernel{}
	c, twin, raw := twinSocket(t, k)
	join(t, twin, testGroup.Addr())
	inode, err := inodeOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	k.inodes = []uint64{inode}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, some [2]unix.CapUserData
	if err := unix.Capget(&hdr, &all[0]); err != nil {
		t.Fatal(err)
	}
	some = all
	some[0].Effective &^= 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN
	unprivileged := func() error {
		if err := unix.Capset(&hdr, &some[0]); err != nil {
			return err
		}
		err := c.Hear(raw)
		if cerr := unix.Capset(&hdr, &all[0]); cerr != nil {
			t.Fatal(cerr)
		}
		return err
	}
	expect := func(what string, ours bool, reason string) {
		t.Helper()
		why := c.groupsWhy()
		c.e.hearers.mu.Lock() // watch runs
		defer c.e.hearers.mu.Unlock()
		if k.steering[groupAt{1, testGroup}] != ours || !strings.Contains(why, reason) || ours != (why == "") {
			t.Errorf("%s: ours %v, %q; want ours %v", what, k.steering[groupAt{1, testGroup}], why, ours)
		}
	}
	if err := unprivileged(); err != nil {
		t.Fatal("without the privilege:", err)
	}
	expect("without the privilege", false, "CAP_NET_RAW")
	if err := c.Hear(raw); err != nil {
		t.Fatal("with the privilege:", err)
	}
	expect("with the privilege", true, "")
	if err := unprivileged(); err != nil { // the mark stays
		t.Fatal("marked before:", err)
	}
	expect("marked before", true, "")
}

// slowRaw calls after behind the first use of a descriptor.
type slowRaw struct {
	syscall.RawConn
	once  *sync.Once
	after func()
}

func (r slowRaw) Control(f func(fd uintptr)) error {
	err := r.RawConn.Control(f)
	r.once.Do(r.after)
	return err
}

// TestHearTogether: of two calls at once the older memberships do not win.
func TestHearTogether(t *testing.T) {
	c, twin, raw := twinSocket(t, &countingKernel{})
	join(t, twin, testGroup.Addr())
	second := make(chan error, 1)
	first := slowRaw{raw, new(sync.Once), func() { // the memberships have been read
		join(t, twin, testGroup.Addr().Next())
		go func() { second <- c.Hear(raw) }()
		select { // it waits for the first
		case err := <-second:
			second <- err
		case <-time.After(50 * time.Millisecond):
		}
	}}
	if err := c.Hear(first); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.hearing.Joined); n != 2 {
		t.Errorf("%d memberships; want both", n)
	}
}
