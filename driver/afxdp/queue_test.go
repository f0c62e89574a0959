package afxdp

import (
	"bytes"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
)

// couple opens both ends of a pair in c's mode, with UDP port 7 ours.
func couple(t testing.TB, c Config, o lab.Options) (p *lab.Pair, a, b *Device) {
	t.Helper()
	o.Neighbors = true
	p = lab.NewPair(t, o)
	a, b = openAt(t, p.A, c), openAt(t, p.B, c)
	must(t, a.AddPort(udp, anyPort(7)))
	must(t, b.AddPort(udp, anyPort(7)))
	return p, a, b
}

// Several queues share one arena; queue i arrives at the peer's queue i, or
// one before in generic mode, see preferGeneric.
func TestQueues(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p, a, b := couple(t, Config{Mode: mode}, lab.Options{Queues: 4})
			if len(a.queues.all()) != 4 || len(a.Queues()) != 4 {
				t.Fatalf("%d queues", len(a.queues.all()))
			}
			for round := range 3 {
				for i, q := range a.queues.all() {
					frame := datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(100*round+10*i+18))
					send(t, a, q, frame)
					to := i
					if mode == ModeGeneric {
						to = max(i-1, 0)
					}
					if got, _ := receive(t, b, b.queues.all()[to], patience); !bytes.Equal(got, frame) {
						t.Fatalf("from queue %d: received %d bytes", i, len(got))
					}
				}
			}
			lent := 0
			for _, q := range b.queues.all() {
				lent += q.lent
			}
			if b.arena.FreeFrames()+lent != b.arena.Frames() {
				t.Errorf("%d free and %d lent of %d", b.arena.FreeFrames(), lent, b.arena.Frames())
			}
		})
	}
}

// Packets for a queue without a socket stay the kernel's.
func TestSomeQueues(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2, Neighbors: true})
	a := openAt(t, p.A, Config{Queues: []int{1}})
	b := openAt(t, p.B, Config{})
	must(t, a.AddPort(udp, anyPort(7)))
	frame := datagram(v4of(p.B), v4of(p.A), 7, 7, pattern(18))
	send(t, b, b.queues.all()[0], frame)
	send(t, b, b.queues.all()[1], frame)
	if got, _ := receive(t, a, a.queues.all()[0], patience); !bytes.Equal(got, frame) {
		t.Errorf("received %d bytes", len(got))
	}
	await(t, "one packet for the kernel, one for us", func() bool {
		c, err := a.Counters()
		must(t, err)
		return c.PassNoSocket == 1 && c.Redirected == 1
	})
	for _, bad := range [][]int{{2}, {-1}, {0, 0}} {
		if d, err := tryOpen(p.B, Config{Queues: bad}); err == nil {
			d.Close()
			t.Errorf("queues %v accepted", bad)
		}
	}
}

// A full ring loses packets, counts them, and goes on.
func TestOverflow(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p, a, b := couple(t, Config{Mode: mode, RxRing: 64}, lab.Options{})
			frame := datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18))
			for range 200 {
				send(t, a, a.queues.all()[0], frame)
			}
			const held = 64
			for start := time.Now(); b.queues.all()[0].Stats().RxDropped < 200-held && time.Since(start) < patience; {
				runtime.Gosched() // the kernel passes them on in its own time
			}
			for range held {
				if got, _ := receive(t, b, b.queues.all()[0], patience); got == nil {
					t.Fatal("less came than the ring holds")
				}
			}
			s := b.queues.all()[0].Stats()
			if s.RxDropped == 0 || s.RxFillEmpty == 0 || s.RxPackets != held {
				t.Errorf("stats %+v", s)
			}
			send(t, a, a.queues.all()[0], frame)
			if got, _ := receive(t, b, b.queues.all()[0], patience); !bytes.Equal(got, frame) {
				t.Errorf("after overflow: received %d bytes", len(got))
			}
		})
	}
}

// A full transmit ring takes whole packets only; one Kick sends it all.
func TestTxRing(t *testing.T) {
	p, a, b := couple(t, Config{TxRing: 128, TxBudget: -1}, lab.Options{MTU: 9000})
	q := a.queues.all()[0]
	one := put(t, a, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(8000)))
	if len(one) != 2 || q.TxSpace() != 128 {
		t.Fatalf("%d Descs, space %d", len(one), q.TxSpace())
	}
	small := put(t, a, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18)))
	many := append([]ring.Desc(nil), small...)
	for range 70 {
		many = append(many, one...)
	}
	if n := q.TxBatch(many); n != 127 {
		t.Fatalf("took %d of 128, want 127: not half a packet", n)
	}
	if q.TxSpace() != 1 || q.Stats().TxRingFull != 1 {
		t.Errorf("space %d, stats %+v", q.TxSpace(), q.Stats())
	}
	if !a.arena.InNIC(one[0].Frame) {
		t.Error("frame not marked as in the ring")
	}
	must(t, q.Kick())
	reclaim(t, q, 127)
	if q.TxSpace() != 128 || a.arena.InNIC(one[0].Frame) {
		t.Errorf("space %d", q.TxSpace())
	}
	if k := q.Stats().Kicks; k < 2 {
		t.Errorf("%d system calls for 127 Descs at 32 each", k)
	}
	must(t, q.Kick())
	if s := q.Stats(); s.TxRingNone != 1 || s.TxPackets != 64 {
		t.Errorf("stats %+v", s)
	}
	for n := 0; n < 64; n++ {
		if got, _ := receive(t, b, b.queues.all()[0], patience); got == nil {
			t.Fatalf("packet %d is missing", n)
		}
	}
}

// The most Descs of a packet: 18 arrive, 19 never would.
func TestMaxFrags(t *testing.T) {
	p, a, b := couple(t, Config{}, lab.Options{MTU: 65535})
	q := a.queues.all()[0]
	if a.Caps().MaxFrags != 18 {
		t.Fatalf("MaxFrags %d", a.Caps().MaxFrags)
	}
	split := func(n int) (ds []ring.Desc, frame []byte) {
		frame = datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(n*1000-42))
		for i := range n {
			f, _ := a.arena.Alloc()
			copy(a.arena.Bytes(f)[50:], frame[i*1000:][:1000])
			ds = append(ds, ring.Desc{Frame: f, Off: 50, Len: 1000, Flags: ring.FlagMore})
		}
		ds[n-1].Flags = 0
		return ds, frame
	}
	ds, frame := split(18)
	if n := q.TxBatch(ds); n != 18 {
		t.Fatalf("took %d", n)
	}
	must(t, q.Kick())
	if got, _ := receive(t, b, b.queues.all()[0], patience); !bytes.Equal(got, frame) {
		t.Errorf("18 Descs: received %d bytes", len(got))
	}
	reclaim(t, q, 18)
	// Taken, dropped and counted, with nothing held.
	ds, _ = split(19)
	for _, bad := range [][]ring.Desc{
		ds,
		{{Frame: ds[0].Frame, Len: 0}},
		{{Frame: ds[0].Frame, Off: 4000, Len: 100}},
		{{Frame: ring.Frame(a.arena.Frames()), Len: 100}},
		{{Frame: ds[0].Frame, Len: 100, Flags: ring.FlagMore}},
	} {
		if n := q.TxBatch(bad); n != len(bad) || q.posted != 0 || a.arena.InNIC(bad[0].Frame%ring.Frame(a.arena.Frames())) {
			t.Errorf("took %d of %d, %d posted", n, len(bad), q.posted)
		}
	}
	if s := q.Stats(); s.TxInvalid != 5 || s.TxPackets != 1 {
		t.Errorf("stats %+v", s)
	}
	// And the kernel would indeed not send 19.
	q.maxFrags = 19
	q.TxBatch(ds)
	must(t, q.Kick())
	if got, _ := receive(t, b, b.queues.all()[0], 30*time.Millisecond); got != nil {
		t.Errorf("19 Descs arrived as %d bytes", len(got))
	}
}

// A chain that does not fit waits whole.
func TestChainHeldBack(t *testing.T) {
	p, a, b := couple(t, Config{}, lab.Options{MTU: 9000})
	q := b.queues.all()[0]
	for range 2 {
		send(t, a, a.queues.all()[0], datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(8900)))
	}
	const descs = 6
	await(t, "both are there", func() bool { return atomic.LoadUint32(q.rx.prod)-q.seen.Load() == descs })
	ds := make([]ring.Desc, 16)
	if n := q.RxBatch(ds[:2]); n != 0 || !q.RxPending() {
		t.Errorf("%d of a chain of 3", n)
	}
	if n := q.RxBatch(ds[:5]); n != 3 {
		t.Errorf("%d, want one packet of 3", n)
	}
	if n, bytes := ring.PacketLen(ds); n != 3 || bytes != 8942 {
		t.Errorf("%d Descs, %d bytes", n, bytes)
	}
	if n := q.RxBatch(ds[3:]); n != 3 || q.RxPending() {
		t.Errorf("%d, want the other packet", n)
	}
}

func TestNoAllocations(t *testing.T) {
	for _, mode := range modes {
		p, a, b := couple(t, Config{Mode: mode}, lab.Options{})
		x, y := a.queues.all()[0], b.queues.all()[0]
		pkt := put(t, a, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18)))
		ds := make([]ring.Desc, 64)
		got := 0
		n := allocs.PerRun(200, func() {
			y.Arm()
			if x.TxSpace() > 0 {
				x.TxBatch(pkt)
			}
			x.Kick()
			x.Reclaim()
			for range 100 {
				if y.RxPending() {
					break
				}
			}
			y.Disarm()
			k := y.RxBatch(ds)
			for _, d := range ds[:k] {
				b.arena.Free(d.Frame)
			}
			y.Refill()
			got += k
		})
		if n != 0 {
			t.Errorf("%v: %v allocations", mode, n)
		}
		if got == 0 {
			t.Errorf("%v: nothing received", mode)
		}
	}
}

// wait polls WaitFD for readability.
func wait(t *testing.T, q *Queue, d time.Duration) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(q.WaitFD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(d.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		return n > 0
	}
}

func TestArm(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p, a, b := couple(t, Config{Mode: mode}, lab.Options{})
			q := b.queues.all()[0]
			frame := datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18))
			for i := range 50 {
				if q.Arm() {
					t.Fatal("ready without a packet")
				}
				if wait(t, q, 0) {
					t.Fatalf("%d: readable without a packet", i)
				}
				send(t, a, a.queues.all()[0], frame)
				if !wait(t, q, patience) {
					t.Fatalf("%d: no wake-up", i)
				}
				q.Disarm()
				if wait(t, q, 0) {
					t.Fatalf("%d: readable while disarmed", i)
				}
				if !q.Arm() {
					t.Fatalf("%d: a packet is there, and Arm does not tell", i)
				}
				send(t, a, a.queues.all()[0], frame)
				if wait(t, q, time.Millisecond) {
					t.Fatalf("%d: woken while disarmed", i)
				}
				for range 2 {
					if got, _ := receive(t, b, q, patience); got == nil {
						t.Fatalf("%d: a packet is missing", i)
					}
				}
			}
		})
	}
}

// Go's netpoller sleeps on WaitFD, and no packet slips through between Arm
// and sleep.
func TestNetpoller(t *testing.T) {
	p, a, b := couple(t, Config{}, lab.Options{})
	q := b.queues.all()[0]
	fd, err := unix.FcntlInt(uintptr(q.WaitFD()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), "queue")
	defer f.Close()
	conn, err := f.SyscallConn()
	must(t, err)
	frame := datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18))

	const rounds = 1000
	var seen atomic.Int64
	var sleeps atomic.Bool // or is about to
	var sender = make(chan error, 1)
	go func() {
		x := a.queues.all()[0]
		pkt := put(t, a, frame)
		for i := range int64(rounds) {
			// Now at once, now when the receiver most likely sleeps.
			if i%10 == 0 {
				for start := time.Now(); !sleeps.Load() && time.Since(start) < patience; {
					runtime.Gosched()
				}
				time.Sleep(500 * time.Microsecond)
			}
			x.TxBatch(pkt)
			if err := x.Kick(); err != nil {
				sender <- err
				return
			}
			x.Reclaim()
			for start := time.Now(); seen.Load() <= i; {
				if time.Since(start) > patience {
					sender <- errors.New("packet not seen")
					return
				}
			}
		}
		sender <- nil
	}()
	slept := 0
	ds := make([]ring.Desc, 64)
	for seen.Load() < rounds {
		if !q.Arm() {
			must(t, f.SetReadDeadline(time.Now().Add(patience)))
			first := true
			err := conn.Read(func(uintptr) bool {
				if first {
					first = false
					sleeps.Store(true)
					return q.RxPending()
				}
				slept++
				return true
			})
			if err != nil {
				t.Fatalf("after %d: %v", seen.Load(), err)
			}
			sleeps.Store(false)
			q.Disarm()
		}
		n := q.RxBatch(ds)
		for _, d := range ds[:n] {
			b.arena.Free(d.Frame)
		}
		q.Refill()
		seen.Add(int64(n))
	}
	must(t, <-sender)
	if slept == 0 {
		t.Error("never slept")
	}
	// Disarmed, packets do not wake it.
	send(t, a, a.queues.all()[0], frame)
	must(t, f.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	calls := 0
	if err := conn.Read(func(uintptr) bool { calls++; return calls > 1 && !q.RxPending() }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("disarmed: %v, want the deadline", err)
	}
}

// A link that goes down comes back; one that is gone ends the queue.
func TestLinkDownAndGone(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p, a, b := couple(t, Config{Mode: mode}, lab.Options{})
			q := a.queues.all()[0]
			pkt := put(t, a, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18)))
			must(t, p.A.SetDown())
			q.TxBatch(pkt)
			if err := q.Kick(); err != unix.ENETDOWN || q.Err() != nil {
				t.Errorf("down: Kick %v, Err %v", err, q.Err())
			}
			must(t, p.A.SetUp())
			for start := time.Now(); ; time.Sleep(time.Millisecond) {
				q.TxBatch(pkt)
				err := q.Kick()
				if got, _ := receive(t, b, b.queues.all()[0], 10*time.Millisecond); got != nil {
					break
				}
				if time.Since(start) > patience {
					t.Fatalf("up again: nothing arrives, Kick %v, %+v", err, q.Stats())
				}
			}
			must(t, p.A.Delete())
			for start := time.Now(); q.Err() == nil && time.Since(start) < patience; time.Sleep(time.Millisecond) {
				q.TxBatch(pkt)
				q.Kick()
			}
			if err := q.Err(); !errors.Is(err, driver.ErrGone) || !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.ENODEV) {
				t.Errorf("gone: Err %v", err)
			}
			if q.TxBatch(pkt) != 0 || q.RxBatch(make([]ring.Desc, 4)) != 0 || q.Lacks() != 0 || q.TxSpace() != 0 || q.Kick() == nil {
				t.Error("gone, and still takes packets")
			}
			// An end that only receives notices when it goes to sleep.
			for start := time.Now(); b.queues.all()[0].Err() == nil && time.Since(start) < patience; time.Sleep(time.Millisecond) {
				b.queues.all()[0].RxBatch(make([]ring.Desc, 64))
				b.queues.all()[0].Arm()
			}
			if err := b.queues.all()[0].Err(); !errors.Is(err, driver.ErrGone) {
				t.Errorf("the peer's end does not notice: Err %v", err)
			}
		})
	}
}

// After Close what may be called without the lock is still safe.
func TestUseAfterClose(t *testing.T) {
	p, a, _ := couple(t, Config{}, lab.Options{})
	q := a.queues.all()[0]
	send(t, a, q, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18)))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				q.RxPending()
				q.Stats()
				q.Err()
			}
		}
	}()
	time.Sleep(time.Millisecond)
	must(t, a.Close())
	time.Sleep(time.Millisecond)
	close(stop)
	<-done
	if q.Err() == nil || q.RxPending() || q.Stats().TxPackets != 1 {
		t.Errorf("after Close: %v, %+v", q.Err(), q.Stats())
	}
	if q.RxBatch(make([]ring.Desc, 1)) != 0 || q.TxBatch(make([]ring.Desc, 1)) != 0 || !q.Arm() {
		t.Error("closed, and still working")
	}
	must(t, a.Close())
	if err := a.AddPort(udp, anyPort(1)); err == nil {
		t.Error("AddPort after Close")
	}
}

// Datagrams in one packet come with the size of each, whatever the MTU; an
// ordinary one does not.
func TestGSOFlag(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{Mode: ModeGeneric})
	q := d.queues.all()[0]
	must(t, d.AddPort(udp, anyPort(7)))
	c, raw := segmenter(t, p)
	ds := make([]ring.Desc, 64)
	for _, c2 := range []struct{ seg, size int }{{1472, 1472}, {1472, 2 * 1472}, {1472, 40 * 1472}, {100, 1400}, {700, 701}, {1, 2}} {
		var err error
		must(t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, c2.seg)
		}))
		must(t, err)
		_, err = c.Write(pattern(c2.size))
		must(t, err)
		n := 0
		for start := time.Now(); n == 0 && time.Since(start) < time.Minute; {
			n = q.RxBatch(ds)
		}
		descs, bytes := ring.PacketLen(ds[:n])
		if descs != n || bytes != c2.size+42 {
			t.Fatalf("%v: received %d bytes in %d of %d Descs", c2, bytes, descs, n)
		}
		flags, seg := ring.DescFlags(0), uint16(0)
		if c2.size > c2.seg {
			flags, seg = ring.FlagGSO|ring.FlagCsumPartial, uint16(c2.seg)
		}
		if got := ds[0].Flags &^ ring.FlagMore; got != flags || ds[0].SegSize != seg {
			t.Errorf("%v: flags %#x, segments of %d bytes", c2, got, ds[0].SegSize)
		}
		for _, x := range ds[1:n] {
			if x.Flags&^ring.FlagMore != 0 {
				t.Errorf("%v: flags %#x on a later Desc", c2, x.Flags)
			}
		}
		for _, x := range ds[:n] {
			d.arena.Free(x.Frame)
		}
	}
}

// segmenter returns a socket of the peer's that sends to port 7.
func segmenter(t *testing.T, p *lab.Pair) (net.Conn, syscall.RawConn) {
	c, err := p.B.Dial("udp", net.JoinHostPort(p.A.Addr4.String(), "7"))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	return c, raw
}

// Where the size of each cannot be known, those above the MTU are left to the
// kernel.
func TestJoinedUnknown(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{Mode: ModeGeneric})
	must(t, d.link.Close())
	must(t, d.objs.Close())
	must(t, p.A.Do(func() (err error) {
		must(t, d.load(&Config{MaxPorts: 16, MaxFlows: 16, Log: zap.NewNop()}, 1, attachment{frags: true}, false))
		d.link, err = link.AttachXDP(link.XDPOptions{Program: d.objs.OnloadSteer, Interface: p.A.Index, Flags: link.XDPGenericMode})
		return err
	}))
	must(t, d.objs.Xsks.Put(uint32(0), uint32(d.queues.all()[0].fd)))
	must(t, d.AddPort(udp, anyPort(7)))
	k, err := p.A.ListenPacket("udp", net.JoinHostPort(p.A.Addr4.String(), "7"))
	must(t, err)
	defer k.Close()
	c, raw := segmenter(t, p)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1472)
	}))
	must(t, err)
	_, err = c.Write(pattern(2 * 1472))
	must(t, err)
	for range 2 {
		must(t, k.SetReadDeadline(time.Now().Add(time.Minute)))
		if n, _, err := k.ReadFrom(make([]byte, 4096)); n != 1472 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := d.Counters(); err != nil || n.PassJoined != 1 || n.Redirected != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
}

// veth makes a pair x0, x1 inside ns, with different numbers of queues.
func veth(t *testing.T, ns *lab.NS, rx, tx, peerRx, peerTx int) {
	t.Helper()
	must(t, ns.Netlink().LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "x0", NumRxQueues: rx, NumTxQueues: tx}, PeerName: "x1",
		PeerNumRxQueues: uint32(peerRx), PeerNumTxQueues: uint32(peerTx),
	}))
	for _, name := range []string{"x0", "x1"} {
		l, err := ns.Netlink().LinkByName(name)
		must(t, err)
		must(t, ns.Netlink().LinkSetUp(l))
	}
}

// A queue that the link does not transmit on receives only.
func TestReceiveOnly(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	veth(t, p.A, 2, 1, 2, 2)
	d, err := Open(Config{Interface: "x0", InNS: p.A.Do, Mode: ModeNative})
	must(t, err)
	defer d.Close()
	if len(d.queues.all()) != 2 {
		t.Fatalf("%d queues", len(d.queues.all()))
	}
	for i, want := range []int{DefaultRing, 0} {
		q := d.queues.all()[i]
		if q.Caps().TxRing != want || q.TxSpace() != want {
			t.Errorf("queue %d: TxRing %d, space %d, want %d", i, q.Caps().TxRing, q.TxSpace(), want)
		}
	}
	q := d.queues.all()[1]
	pkt := put(t, d, pattern(60))
	if n := q.TxBatch(pkt); n != 0 {
		t.Errorf("took %d", n)
	}
	if err := q.Kick(); err != nil || q.Reclaim() != 0 || q.Err() != nil {
		t.Errorf("Kick %v, Err %v", err, q.Err())
	}
	if q.Refill(); q.Lacks() != 0 {
		t.Error("no frames to receive into")
	}
}

// A peer with more transmit queues than this end has to receive.
func TestPeerHasMoreQueues(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	veth(t, p.A, 1, 1, 4, 4)
	d, err := Open(Config{Interface: "x0", InNS: p.A.Do, Mode: ModeNative})
	if err == nil {
		d.Close()
		t.Fatal("native mode accepted")
	}
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "more transmit queues") {
		t.Errorf("error %v", err)
	}
	d, err = Open(Config{Interface: "x0", InNS: p.A.Do})
	must(t, err)
	must(t, d.Close())
}
