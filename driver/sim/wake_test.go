package sim

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/ring"
)

// patience bounds what would hang. No verdict depends on how fast the machine is.
const patience = time.Minute

// readable polls a descriptor.
func readable(t testing.TB, fd int, timeout time.Duration) bool {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(timeout.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
}

func TestArm(t *testing.T) {
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{})
	f := build(protoUDP, addr4[0], addr4[1], nil)
	q := b.queues[0]
	put := func() { send(t, a.queues[0], a.arena, f, ring.Desc{}) }

	put()
	if readable(t, q.WaitFD(), 0) || b.Wakeups() != 0 {
		t.Error("woken without Arm")
	}
	if !q.Arm() {
		t.Error("Arm does not tell what is there")
	}
	recv(t, q, b.arena)
	if q.Arm() {
		t.Error("Arm tells of a packet that was taken")
	}
	put()
	put()
	if !readable(t, q.WaitFD(), patience) || b.Wakeups() != 1 {
		t.Errorf("%d wake-ups", b.Wakeups())
	}
	q.Disarm()
	if readable(t, q.WaitFD(), 0) {
		t.Error("still readable after Disarm")
	}
	recv(t, q, b.arena)
	q.Arm()
	q.Disarm()
	put()
	if readable(t, q.WaitFD(), 0) || b.Wakeups() != 1 {
		t.Error("woken after Disarm")
	}
	recv(t, q, b.arena)
	q.Arm()
	b.Inject(0, f)
	if !readable(t, q.WaitFD(), patience) {
		t.Error("Inject does not wake")
	}
	q.Disarm()
	recv(t, q, b.arena)
	q.Arm()
	b.Break(unix.ENODEV)
	if !readable(t, q.WaitFD(), patience) {
		t.Error("Break does not wake")
	}
}

// A sleeper is woken when a delayed packet arrives, not when it is sent.
func TestArmDelayed(t *testing.T) {
	const delay = 30 * time.Millisecond
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{AtoB: Faults{Delay: delay}})
	f := build(protoUDP, addr4[0], addr4[1], nil)
	for _, armFirst := range []bool{true, false} {
		for !armDelayed(t, a, b, f, delay, armFirst) {
		}
	}
}

// armDelayed reports whether this process was fast enough to look before the packet
// was due.
func armDelayed(t *testing.T, a, b *Device, f []byte, delay time.Duration, armFirst bool) bool {
	t.Helper()
	q := b.queues[0]
	defer q.Disarm()
	start := time.Now()
	if armFirst && q.Arm() {
		t.Fatal("ready")
	}
	send(t, a.queues[0], a.arena, f, ring.Desc{})
	ready := !armFirst && q.Arm() || q.RxPending()
	n := len(recv(t, q, b.arena))
	if time.Since(start) >= delay {
		for ; n == 0; n = len(recv(t, q, b.arena)) {
			runtime.Gosched()
		}
		return false
	}
	if ready || n != 0 {
		t.Fatal("it came at once")
	}
	if !readable(t, q.WaitFD(), patience) {
		t.Fatal("not woken")
	}
	if d := time.Since(start); d < delay {
		t.Errorf("woken after %v", d)
	}
	if !q.RxPending() || len(recv(t, q, b.arena)) != 1 {
		t.Error("woken for nothing")
	}
	return true
}

// On virtual time Step wakes.
func TestArmVirtual(t *testing.T) {
	c := &clock{now: 1}
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{Clock: c.read, AtoB: Faults{Delay: time.Hour}})
	send(t, a.queues[0], a.arena, build(protoUDP, addr4[0], addr4[1], nil), ring.Desc{})
	q := b.queues[0]
	if q.Arm() {
		t.Fatal("ready")
	}
	b.Step()
	if readable(t, q.WaitFD(), 0) || b.Next() != 1+int64(time.Hour) {
		t.Error("woken too early")
	}
	c.now = b.Next()
	b.Step()
	if !readable(t, q.WaitFD(), 0) || !q.RxPending() {
		t.Error("not woken")
	}
}

// Two ends bounce a packet, each asleep on its descriptor while it waits: one
// lost wake-up and it stands still.
func pingPong(t *testing.T, f Faults, rounds int) {
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{AtoB: f, BtoA: f})
	var wg sync.WaitGroup
	side := func(d *Device, first bool) {
		defer wg.Done()
		q := d.queues[0]
		frame := build(protoUDP, addr4[0], addr4[1], fill(50, 0))
		if first {
			send(t, q, d.arena, frame, ring.Desc{})
		}
		for n := 0; n < rounds; {
			if k := len(recv(t, q, d.arena)); k > 0 {
				n += k
				if n < rounds || !first {
					send(t, q, d.arena, frame, ring.Desc{})
				}
				continue
			}
			if n%3 == 0 {
				runtime.Gosched()
			}
			if !q.Arm() && !readable(t, q.WaitFD(), patience) {
				t.Errorf("asleep for ever after %d rounds", n)
				return
			}
			q.Disarm()
		}
	}
	wg.Add(2)
	go side(a, true)
	go side(b, false)
	wg.Wait()
	balanced(t, a)
	balanced(t, b)
	if !t.Failed() && a.Wakeups()+b.Wakeups() == 0 {
		t.Error("nobody slept")
	}
}

func TestPingPong(t *testing.T) {
	n := 20000
	if testing.Short() {
		n = 2000
	} else if testlong.Enabled() {
		n = 1_000_000
	}
	pingPong(t, Faults{}, n)
}

func TestPingPongDelayed(t *testing.T) { pingPong(t, Faults{Delay: 200 * time.Microsecond}, 300) }

// Both ends send and receive as fast as they can, with all faults.
func TestTorture(t *testing.T) {
	f := allFaults
	f.Rate, f.Delay, f.Jitter = 1e9, 100*time.Microsecond, 100*time.Microsecond
	cfg := small(Config{TakeAll: true, Queues: 3, TSO: 65535, TxCsum: true, MaxFrags: 64, RxInfo: true,
		CompletionDelay: 50 * time.Microsecond})
	for _, faults := range []Faults{{}, f} {
		a, b := link(t, cfg, cfg, LinkConfig{AtoB: faults, BtoA: faults})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for _, d := range []*Device{a, b} {
			wg.Add(1)
			go func() {
				defer wg.Done()
				gso, first := tsoPacket(addr4)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					q := d.queues[i%3]
					q.Reclaim()
					if q.TxSpace() > 50 && d.arena.FreeFrames() > 200 {
						if i%5 == 0 {
							send(t, q, d.arena, gso, first)
						} else {
							send(t, q, d.arena, numbered(uint32(i)), ring.Desc{})
						}
					}
					for _, q := range d.queues {
						for _, r := range recv(t, q, d.arena) {
							if r.desc.Flags&ring.FlagCsumGood != 0 && !verified(r.data) {
								t.Error("bad checksum called good")
							}
						}
						if i%50 == 0 && !q.Arm() {
							q.Disarm()
						}
					}
					if i%100 == 0 {
						d.Inject(i/100%3, gso[:100])
						d.AddPort(protoTCP, addr4[1])
						d.RemovePort(protoTCP, addr4[1])
					}
				}
			}()
		}
		time.Sleep(300 * time.Millisecond)
		for _, d := range []*Device{a, b} {
			for _, q := range d.queues {
				for q.Stats().RxPackets == 0 { // on a busy machine that takes longer
					time.Sleep(time.Millisecond)
				}
			}
		}
		a.SetLink(false)
		time.Sleep(20 * time.Millisecond)
		a.SetLink(true)
		a.SetFaults(f)
		time.Sleep(100 * time.Millisecond)
		close(stop)
		wg.Wait()
		time.Sleep(5 * time.Millisecond)
		for _, d := range []*Device{a, b} {
			balanced(t, d)
			for _, q := range d.queues {
				if s := q.Stats(); s.BadDesc != 0 || s.TxInvalid != 0 || s.RxPackets == 0 {
					t.Errorf("%+v", s)
				}
			}
		}
	}
}

func TestAllocs(t *testing.T) {
	for _, f := range []Faults{{}, {Delay: time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Rate: 1e10}} {
		c := &clock{now: 1}
		cfg := small(Config{TSO: 65535, TxCsum: true, MaxFrags: 64, RxRing: 1024})
		a, b := link(t, cfg, cfg, LinkConfig{Clock: c.read, AtoB: f})
		b.AddPort(protoTCP, addr4[1])
		gso, first := tsoPacket(addr4)
		ds := chain(t, a.arena, gso, 1500, first)
		one := chain(t, a.arena, build(protoTCP, addr4[0], addr4[1], nil), 1500, ring.Desc{})
		out := make([]ring.Desc, 256)
		q, r := a.queues[0], b.queues[0]
		step := func() {
			q.TxBatch(one)
			q.TxBatch(ds)
			q.Kick()
			q.Reclaim()
			c.now += 1e6
			for n := r.RxBatch(out); n > 0; n = r.RxBatch(out) {
				for _, d := range out[:n] {
					b.arena.Free(d.Frame)
				}
				r.Refill()
			}
			r.Arm()
			r.Disarm()
			b.Next()
		}
		for range 200 {
			step()
		}
		if n := allocs.PerRun(200, step); n != 0 {
			t.Errorf("%+v: %v allocations", f, n)
		}
		if r.Stats().RxPackets < 5000 {
			t.Errorf("only %d packets", r.Stats().RxPackets)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		f    Faults
	}{{"64", 22, Faults{}}, {"1514", 1472, Faults{}}, {"1514delay", 1472, Faults{Delay: 1}}} {
		b.Run(c.name, func(b *testing.B) {
			x, y := link(b, Config{}, Config{}, LinkConfig{AtoB: c.f})
			y.AddPort(protoUDP, addr4[1])
			var ds []ring.Desc
			for range 32 {
				ds = append(ds, chain(b, x.arena, build(protoUDP, addr4[0], addr4[1], fill(c.size, 0)), 1600, ring.Desc{})...)
			}
			out := make([]ring.Desc, 64)
			fs := make([]ring.Frame, 64)
			q, r := x.queues[0], y.queues[0]
			b.ReportAllocs()
			b.SetBytes(int64(c.size + 42))
			for i := 0; i < b.N; i += 32 {
				q.TxBatch(ds)
				q.Kick()
				q.Reclaim()
				for n := r.RxBatch(out); n > 0; n = r.RxBatch(out) {
					for i := range n {
						fs[i] = out[i].Frame
					}
					y.arena.FreeN(fs[:n])
					r.Refill()
				}
			}
		})
	}
}

func BenchmarkRxPending(b *testing.B) {
	x, y := link(b, Config{}, Config{}, LinkConfig{})
	_ = x
	for b.Loop() {
		y.queues[0].RxPending()
	}
}
