// Package inlet takes the packets of user-space flows from the kernel that come by
// links without queues of ours: the answers of a peer whose way back is another, or
// a flow whose path has moved. Without it the kernel, which knows no such socket,
// resets the connection.
//
// The kernel asks a BPF program of the network namespace for the socket of each
// packet that no connected socket has. So packets have passed the kernel's routing,
// reassembly and filters, as on their way to a socket of its own. Packets of
// connected sockets, forwarded ones, and those that XDP takes cost nothing; another
// one costs a look at a table. Several engines may have an inlet in one namespace.
package inlet

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/inlet/bpf"
	"github.com/onload-go/onload/internal/netns"
)

// Inlet is the programs in one network namespace, and the goroutine that reads what
// they take. It sleeps in the netpoller while nothing comes.
type Inlet struct {
	log   *zap.Logger
	objs  bpf.InletObjects
	link  *link.NetNsLink
	sinks []int // descriptors
	known known

	deliver func([]Packet)
	ring    *ringbuf.Reader
	news    *os.File        // the ring's descriptor, in the netpoller
	raw     syscall.RawConn // news
	closing atomic.Bool
	done    chan struct{}
	batch   batch
	lost    uint64 // what the program counted so far
	without uint64 // what known did
}

// Open makes an inlet in a namespace, which need not stay open. It takes CAP_BPF and
// CAP_NET_ADMIN. Nothing reads what comes before Start.
func Open(ns netns.Handle, log *zap.Logger) (_ *Inlet, err error) {
	in := &Inlet{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	seed := binary.NativeEndian.Uint64(b[:])
	if err := in.load(seed); err != nil {
		return nil, err
	}
	if err := in.known.open(in.objs.Ports, in.objs.Flows, seed); err != nil {
		return nil, err
	}
	if err := in.openRing(); err != nil {
		return nil, err
	}
	if err := ns.Do(in.openSinks); err != nil {
		return nil, err
	}
	err = ns.WithFD(func(fd int) (err error) {
		in.link, err = link.AttachNetNs(fd, in.objs.OnloadLookup)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attaching the socket lookup: %w", err)
	}
	return in, nil
}

func (in *Inlet) load(seed uint64) error {
	spec, err := bpf.LoadInlet()
	if err != nil {
		return err
	}
	if err := spec.Variables[bpf.InletVarSeed].Set(seed); err != nil {
		return err
	}
	return spec.LoadAndAssign(&in.objs, nil)
}

// Add has the packets of a flow taken. Flows are counted: each Add wants a Remove.
// It makes no system call, and may be called from several goroutines.
func (in *Inlet) Add(udp bool, local, remote netip.AddrPort) { in.known.add(udp, local, remote) }

// WithoutRoom returns how many flows found no room among the known ones so far. The
// kernel keeps their packets.
func (in *Inlet) WithoutRoom() uint64 { return in.known.without.Load() }

// Remove leaves the packets of a flow to the kernel again.
func (in *Inlet) Remove(udp bool, local, remote netip.AddrPort) {
	in.known.remove(udp, local, remote)
}

// Close ends the inlet, and waits until deliver has returned. Nobody may call Add or
// Remove from then on.
func (in *Inlet) Close() error {
	var errs []error
	if in.link != nil {
		errs = append(errs, in.link.Close())
	}
	errs = append(errs, in.closeSinks())
	if in.news != nil {
		in.closing.Store(true) // a RawConn's error of a closed file is not os.ErrClosed
		errs = append(errs, in.news.Close())
	}
	if in.done != nil {
		<-in.done
	}
	if in.ring != nil {
		errs = append(errs, in.ring.Close())
	}
	return errors.Join(append(errs, in.known.close(), in.objs.Close())...)
}
