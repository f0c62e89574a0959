package inlet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The layout of the maps `ports` and `flows` (bpf/inlet.c).
const (
	ports     = 1 << 16 // of each protocol
	perWord   = 4       // ports
	portBits  = 16
	portWords = 2 * ports / perWord
	buckets   = 1 << 16
	slots     = 8 // of a bucket: a cache line
)

type bucket [slots]atomic.Uint64

// known has the flows that the program takes from the kernel, in memory that it
// shares with the program: a flow costs no system call. A flow that is added twice
// has two slots, so nothing counts them. Half a million slots, of two buckets for each
// flow, have room for 400,000 flows.
type known struct {
	ports   []atomic.Uint64 // how many flows each has; a counter that is full stays so
	flows   []bucket        // hashes; 0: a free slot
	mem     [][]byte
	seed    uint64        // of the hash, so that nobody outside can choose flows that collide
	without atomic.Uint64 // flows that found no room
}

func (k *known) open(ports, flows *ebpf.Map, seed uint64) error {
	p, err := k.mmap(ports, 8*portWords)
	if err != nil {
		return err
	}
	f, err := k.mmap(flows, 8*slots*buckets)
	if err != nil {
		return err
	}
	k.ports = unsafe.Slice((*atomic.Uint64)(p), portWords)
	k.flows = unsafe.Slice((*bucket)(f), buckets)
	k.seed = seed
	return nil
}

func (k *known) mmap(m *ebpf.Map, size int) (unsafe.Pointer, error) {
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of the table of flows: %w", err)
	}
	k.mem = append(k.mem, mem)
	return unsafe.Pointer(unsafe.SliceData(mem)), nil
}

func (k *known) close() error {
	var errs []error
	for _, mem := range k.mem {
		errs = append(errs, unix.Munmap(mem))
	}
	k.mem, k.ports, k.flows = nil, nil, nil
	return errors.Join(errs...)
}

// add writes a flow down. Without room the kernel keeps the flow's packets: they are
// lost to us, but nobody else's become ours.
func (k *known) add(udp bool, local, remote netip.AddrPort) {
	k.countPort(udp, local.Port(), 1)
	h := hash(k.seed, udp, local, remote)
	if !k.swap(h, 0, h) {
		k.without.Add(1)
	}
}

func (k *known) remove(udp bool, local, remote netip.AddrPort) {
	k.countPort(udp, local.Port(), -1)
	h := hash(k.seed, udp, local, remote)
	k.swap(h, h, 0) // else it found no room
}

// swap writes new in place of old to one slot of the flow with the hash h. It reports
// whether there was one.
func (k *known) swap(h, old, new uint64) bool {
	return k.flows[h%buckets].swap(old, new) || k.flows[h>>32%buckets].swap(old, new)
}

func (b *bucket) swap(old, new uint64) bool {
	for i := range b {
		if b[i].Load() == old && b[i].CompareAndSwap(old, new) {
			return true
		}
	}
	return false
}

// countPort adds d, which is 1 or -1, to the counter of a port, unless it is full.
func (k *known) countPort(udp bool, port uint16, d int) {
	i := int(port)
	if udp {
		i += ports
	}
	const full = 1<<portBits - 1
	w, shift := &k.ports[i/perWord], i%perWord*portBits
	for {
		old := w.Load()
		if n := old >> shift & full; n == full || n == 0 && d < 0 {
			return
		}
		if w.CompareAndSwap(old, old+uint64(d)<<shift) {
			return
		}
	}
}

// hash is the program's, of words in the order of the machine as it reads them. It is
// never 0.
func hash(seed uint64, udp bool, local, remote netip.AddrPort) uint64 {
	h := mixAddr(mixAddr(seed, local.Addr()), remote.Addr())
	h = mix(h, uint32(local.Port())<<16|uint32(remote.Port()))
	proto := uint32(0)
	if udp {
		proto = 1
	}
	return max(mix(h, proto), 1)
}

func mixAddr(h uint64, a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return mix(h, binary.NativeEndian.Uint32(b[:]))
	}
	b := a.As16()
	for i := 0; i < len(b); i += 4 {
		h = mix(h, binary.NativeEndian.Uint32(b[i:]))
	}
	return h
}

func mix(h uint64, w uint32) uint64 {
	h = (h ^ uint64(w)) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}
