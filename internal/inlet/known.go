package inlet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The layout of the map `known` (bpf/inlet.c), in words of 64 bits.
const (
	ports     = 1 << 16 // of each protocol
	portBits  = 16
	portWords = 2 * ports * portBits / 64
	flows     = 1 << 18
	flowBits  = 8
	flowWords = flows * flowBits / 64
)

// known has the flows that the program takes from the kernel, in memory that it
// shares with the program: a flow costs no system call. Flows are counted by their
// port, exactly, and by a hash. A counter that is full stays so: then the stack gets
// packets of that port that are not its, and answers them.
type known struct {
	mem   []byte
	words []atomic.Uint64
	seed  uint64 // of the hash, so that nobody outside can choose flows that collide
}

func (k *known) open(m *ebpf.Map, seed uint64) (err error) {
	const size = 8 * (portWords + flowWords)
	k.mem, err = unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap of the table of flows: %w", err)
	}
	k.words = unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(k.mem))), size/8)
	k.seed = seed
	return nil
}

func (k *known) close() error {
	if k.mem == nil {
		return nil
	}
	mem := k.mem
	k.mem, k.words = nil, nil
	return unix.Munmap(mem)
}

// count adds d, which is 1 or -1, to the counters of a flow.
func (k *known) count(udp bool, local, remote netip.AddrPort, d int) {
	port := int(local.Port())
	if udp {
		port += ports
	}
	add(k.words[:portWords], port, portBits, d)
	add(k.words[portWords:], int(hash(k.seed, udp, local, remote)%flows), flowBits, d)
}

// add adds d to the i-th counter of so many bits, unless it is full.
func add(words []atomic.Uint64, i, bits, d int) {
	per := 64 / bits
	w, shift := &words[i/per], i%per*bits
	for {
		old := w.Load()
		switch field := old >> shift & (1<<bits - 1); {
		case field == 1<<bits-1, field == 0 && d < 0:
			return
		}
		if w.CompareAndSwap(old, old+uint64(d)<<shift) {
			return
		}
	}
}

// hash is the program's, of words in the order of the machine as it reads them.
func hash(seed uint64, udp bool, local, remote netip.AddrPort) uint64 {
	h := mixAddr(mixAddr(seed, local.Addr()), remote.Addr())
	h = mix(h, uint32(local.Port())<<16|uint32(remote.Port()))
	if udp {
		return mix(h, 1)
	}
	return mix(h, 0)
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
