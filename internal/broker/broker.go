// Package broker shares network interfaces among processes that have no privilege.
//
// A broker owns the interfaces' XDP programs, and gives each client process a link that
// the kernel polices (nicshare), for ports that the client has proven to be its own
// (claim) and that the policy allows it. Clients speak to it by package wire. What it
// needs: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN (network
// namespaces), CAP_IPC_LOCK, and CAP_NET_BIND_SERVICE (ports below 1024).
package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/guardian"
)

// Config is what a broker shares, and with whom.
type Config struct {
	Socket     string   // path; a socket that a dead broker has left is replaced
	Interfaces []string // names
	PinDir     string   // in a bpf filesystem, see nicshare.Config
	Policy     *policy.Policy
	Mode       nicshare.Mode
	// InNS calls its argument inside the interfaces' network namespace, on one thread.
	// nil: the current one.
	InNS func(func() error) error
	// ResumeWait is how long the links of an earlier broker wait for their clients to come
	// back and prove their ports; 0 means DefaultResumeWait. Then they end: nothing keeps
	// others from a port that such a client has given up, whose packets still come to it.
	ResumeWait time.Duration
	Log        *zap.Logger // nil: silent
}

// DefaultResumeWait is that of Config. Clients try each second.
const DefaultResumeWait = 30 * time.Second

// Broker serves clients. Its methods may be called at the same time.
type Broker struct {
	log       *zap.Logger
	inNS      func(func() error) error
	cookie    uint64 // of the network namespace
	ephemeral [2]uint16
	nics      []*nic
	listener  *listener
	teller    *guardian.Teller
	stop      chan struct{} // closed: the broker ends

	resumeWait time.Duration

	// Without descriptors a broker could not even receive a question that comes with one, and
	// would drop whoever asks. So what clients have leaves some free.
	maxClients int
	ports      *share // that are held, each by a descriptor
	flows      *share // that are left to the kernel

	mu      sync.Mutex
	policy  *policy.Policy
	clients map[*client]bool
	ended   bool
	served  sync.WaitGroup
}

// nic is an interface of the broker's.
type nic struct {
	name   string
	index  uint32
	master int // index of the interface that it is part of (VRF), or 0
	share  *nicshare.NIC
	links  *share

	mu      sync.Mutex
	orphans map[[16]byte]*nicshare.Link // of an earlier broker, whose clients have not come back
	until   time.Time                   // when they end
}

// Open takes the interfaces, also from a broker that has ended and left its links, and
// listens.
func Open(c Config) (_ *Broker, err error) {
	b := &Broker{log: c.Log, inNS: c.InNS, policy: c.Policy, clients: map[*client]bool{}, stop: make(chan struct{})}
	if b.log == nil {
		b.log = zap.NewNop()
	}
	if c.ResumeWait == 0 {
		c.ResumeWait = DefaultResumeWait
	}
	b.resumeWait = c.ResumeWait
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	most := min(files.Cur, math.MaxInt32)
	b.maxClients = int(most / 8) // a connection has two
	maxPorts, maxFlows := int(most/2), math.MaxInt
	if b.inNS == nil {
		b.inNS = func(fn func() error) error { return fn() }
	}
	defer func() {
		if err != nil {
			_ = b.Detach()
		}
	}()
	if err := b.inNS(b.look); err != nil {
		return nil, err
	}
	if err := b.inNS(func() (err error) { b.teller, err = guardian.NewTeller(); return err }); err != nil {
		return nil, fmt.Errorf("broker: a raw socket: %w", err)
	}
	for _, name := range c.Interfaces {
		n, err := b.openNIC(&c, name)
		if err != nil {
			return nil, fmt.Errorf("broker: interface %s: %w", name, err)
		}
		b.nics = append(b.nics, n)
		maxPorts, maxFlows = min(maxPorts, n.share.MaxPorts()/2), min(maxFlows, n.share.MaxFlows()) // two entries for any address
	}
	b.ports, b.flows = newShare("ports", maxPorts), newShare("connections that are left to the kernel", maxFlows)
	b.listener, err = listen(c.Socket)
	return b, err
}

// look asks for what holds in the network namespace.
func (b *Broker) look() (err error) {
	if b.cookie, err = claim.NamespaceCookie(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	for i, f := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(f, 10, 16)
		if err != nil || i >= len(b.ephemeral) {
			return fmt.Errorf("broker: ip_local_port_range is %q", text)
		}
		b.ephemeral[i] = uint16(n)
	}
	return nil
}

func (b *Broker) openNIC(c *Config, name string) (*nic, error) {
	n := &nic{name: name, orphans: map[[16]byte]*nicshare.Link{}}
	err := b.inNS(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			n.index, n.master = uint32(l.Attrs().Index), l.Attrs().MasterIndex
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	n.share, err = nicshare.Open(nicshare.Config{Interface: name, PinDir: c.PinDir, Mode: c.Mode, InNS: b.inNS, Log: b.log})
	if err != nil {
		return nil, err
	}
	n.links = newShare("links of "+name, n.share.MaxLinks())
	for _, l := range n.share.Links() {
		n.orphans[l.Token()] = l
	}
	n.until = time.Now().Add(c.ResumeWait)
	b.log.Info("broker: interface is shared", zap.String("interface", name), zap.Int("links of before", len(n.orphans)))
	return n, nil
}

// SetPolicy replaces the policy: for all that is asked from now on. What a client
// has it keeps.
func (b *Broker) SetPolicy(p *policy.Policy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = p
}

func (b *Broker) currentPolicy() *policy.Policy {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.policy
}

// Serve serves clients until ctx ends, and returns nil then.
func (b *Broker) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = b.listener.Close() })
	defer stop()
	sweep, end := context.WithCancel(ctx)
	defer end()
	b.served.Go(func() { b.sweep(sweep) })
	for {
		conn, err := b.listener.accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) {
			// Clients that have links go on, and others wait until one ends.
			b.log.Warn("broker: no descriptor or memory is left", zap.Error(err))
			time.Sleep(fullWait)
			continue
		}
		if err != nil {
			return fmt.Errorf("broker: %w", err)
		}
		b.take(conn)
	}
}

// fullWait is how long clients wait where the broker has no descriptor left.
const fullWait = 100 * time.Millisecond

// sweepEvery is the time between two looks whether links of an earlier broker are dead.
const sweepEvery = time.Second

// sweep ends links of an earlier broker whose processes have died, which nobody tells this
// one, or do not come back.
func (b *Broker) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		for _, n := range b.nics {
			n.sweep(b.log)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (n *nic) sweep(log *zap.Logger) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for token, l := range n.orphans {
		alive := l.Alive()
		if alive && time.Now().Before(n.until) {
			continue
		}
		if alive {
			log.Warn("broker: the client of a link has not come back, which ends", zap.String("interface", n.name), zap.Int("link", l.ID()))
		}
		delete(n.orphans, token)
		if err := l.Close(); err != nil {
			log.Warn("broker: link of before", zap.String("interface", n.name), zap.Error(err))
		}
	}
}

// adopt returns the link of an earlier broker that has the token, once.
func (n *nic) adopt(token [16]byte) *nicshare.Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.orphans[token]
	delete(n.orphans, token)
	return l
}

// devices returns the interfaces that sockets can be bound to which get packets of ours.
func (b *Broker) devices() (l []int) {
	for _, n := range b.nics {
		if l = append(l, int(n.index)); n.master != 0 {
			l = append(l, n.master)
		}
	}
	return l
}

// nicOf returns the interface with that index, or nil.
func (b *Broker) nicOf(index uint32) *nic {
	for _, n := range b.nics {
		if n.index == index {
			return n
		}
	}
	return nil
}

// Detach ends the broker and leaves the links of its clients, for the next one: their
// packets go on.
func (b *Broker) Detach() error { return b.end((*nicshare.NIC).Detach, false) }

// Close ends the broker and all links: the interfaces are the kernel's again.
func (b *Broker) Close() error { return b.end((*nicshare.NIC).Close, true) }

func (b *Broker) end(part func(*nicshare.NIC) error, links bool) error {
	b.mu.Lock()
	if !b.ended {
		close(b.stop)
	}
	b.ended = true
	clients := b.clients
	b.clients = nil
	b.mu.Unlock()
	var errs []error
	if b.listener != nil {
		errs = append(errs, b.listener.Close())
	}
	for c := range clients {
		c.leave(!links)
	}
	b.served.Wait()
	for _, n := range b.nics {
		errs = append(errs, part(n.share))
	}
	if b.teller != nil {
		errs = append(errs, b.teller.Close())
		b.teller = nil
	}
	return errors.Join(errs...)
}
