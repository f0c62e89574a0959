// Package stack runs the protocols over a set of NIC queues: lock, poll turn,
// demultiplexer, timers, ports, wake-ups.
//
// The application's own goroutines run it. A goroutine that would wait takes the
// stack lock and polls the queues. One that finds the lock taken leaves its work
// with the holder. A reactor goroutine does the rest while nobody polls. See
// ARCHITECTURE.md.
package stack

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Stack is one user-space TCP/UDP stack over a set of queues. Several may share
// links (NewTeam). It is made of parts,
// and each part says which lock protects it.
type Stack struct {
	wiring

	lock      *ring.Lock // the stack lock
	waits     waits
	nextTimer atomic.Int64  // earliest timer, ns; written under the lock
	turns     atomic.Uint64 // poll turns done; likewise

	// Under the lock.
	now       int64 // when the section began, ns
	arena     *ring.Arena
	cache     *ring.Cache
	host      *tcp.Host
	wheel     *ring.Wheel
	kicker    kicker
	turn      turn
	demux     demux
	groups    groups
	rx        rx
	tx        [48]ring.Desc // packet under construction
	fragments fragments
	locals    locals
	dests     dests
	icmp      ip.Limiter

	life     life
	ports    *portTable   // has its own lock
	counters counters     // atomic
	caps     *driver.Caps // of all queues; does not change
	cfg      Config       // likewise
}

// New starts a stack. It calls cfg.Close also when it fails.
func New(cfg Config) (*Stack, error) {
	if err := cfg.check(); err != nil {
		return nil, errors.Join(err, cfg.close())
	}
	now := nanotime()
	s := &Stack{
		waits: waits{spin: cfg.spin()},
		lock:  ring.NewLock(),
		now:   now,
		arena: cfg.Arena,
		wheel: ring.NewWheel(now),
		cfg:   cfg,
		caps:  commonCaps(cfg.queues()),
	}
	s.wiring.init(&cfg)
	s.brought = &brought{}
	if cfg.team != nil {
		s.brought = &cfg.team.devices
	}
	s.cache = ring.NewCache(s.arena, cfg.stacks())
	s.host = s.newHost()
	s.life.closed = make(chan struct{})
	s.kicker.batches = cfg.Profile != Latency
	s.turn.init()
	s.demux.init(cfg.Inlet)
	if cfg.Flows != nil {
		s.demux.table = cfg.Flows.Writer()
	}
	s.demux.mates.team, s.demux.mates.index = cfg.team, cfg.teamIndex
	s.demux.mates.in.work.Kind = ofMates
	s.groups.init()
	s.rx.inlet.init()
	s.dests.init(cfg.Net, &s.wiring, s.arena, cfg.Output, s.host.TSO)
	s.locals.net = cfg.Net
	s.rx.wave = waveOf()
	s.rx.refillAt = refillAt(s.caps.RxRing, s.arena.Frames(), len(s.queues))
	s.fragments.init(s.arena, s.cache, cfg.stacks())
	s.fragments.TimedOut = s.reassemblyTimeout
	if slices.ContainsFunc(s.links(), func(k *link) bool { return k.returner != nil }) {
		s.fragments.Return, s.fragments.MayAnswer = s.returnPacket, s.icmp.Allow
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails since Go 1.24
	s.icmp.Init(now, partOf(icmpPerSecond, icmpPerSecond, cfg.stacks()), partOf(icmpBurst, icmpBurst, cfg.stacks()), seed)
	s.ports = newPortTable(cfg.Ports, s.wiring.steering(), cfg.stacks())
	if t := cfg.team; t != nil {
		s.ports.leaving = &t.left
	}
	s.nextTimer.Store(never)
	for i, q := range s.queues {
		q.Refill()
		if q.Caps().Virtual {
			s.rx.virtual |= 1 << i
		}
	}
	if cfg.Profile == Balanced && cfg.Spin == 0 && !cfg.Called {
		s.waits.policy = newPolicy(wakeCPU, wakeLatency, mrand.Uint64())
		s.waits.spinNow.Store(s.waits.policy.budget(now))
	}
	if err := s.startWaiting(); err != nil {
		return nil, errors.Join(fmt.Errorf("stack: %s: %w", cfg.name(), err), cfg.close())
	}
	s.life.unsub = cfg.Net.Subscribe(s.onChange)
	s.begin()
	s.learnLinks() // from now on changes are heard of
	s.end()
	if cfg.Called {
		s.startCalled()
	}
	s.warn()
	return s, nil
}

// newHost makes the part that connections share, from what the queues can do.
func (s *Stack) newHost() *tcp.Host {
	tso, frags := s.wiring.segmenting()
	h := tcp.NewHost(s.arena, s.cache, tcp.Caps{MaxFrags: s.caps.MaxFrags, TSO: tso, TSOFrags: frags, TxCsum: s.caps.TxCsum})
	s.tsoFrags = cmp.Or(frags, h.TSOFrags)
	h.Gather = true
	if k := s.cfg.Keys; k != nil {
		h.ISNKey, h.TSKey = k.ISN, k.Timestamp
	}
	if t := s.cfg.team; t != nil {
		h.ServerCookies = &t.opens
	}
	if s.cfg.MaxOrphans > 0 {
		h.MaxOrphans = s.cfg.MaxOrphans
	}
	return h
}

// Caps returns what all queues of the stack can do.
func (s *Stack) Caps() *driver.Caps { return s.caps }

// rxPending reports whether a packet waits on any queue.
func (s *Stack) rxPending() bool {
	for _, q := range *s.visible.Load() {
		if q.RxPending() {
			return true
		}
	}
	return false
}
