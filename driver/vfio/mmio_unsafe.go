package vfio

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Regs are registers of a device, or memory that it writes at any time. Offsets
// are in bytes and aligned to what is read or written; an offset beyond the end
// panics. Reads and writes of 32 bits are atomic and ordered: whoever sees a Store
// sees what was written before it, and what is read after a Load is no older. Values are in the byte order of the machine, which is little-endian
// where there are PCI devices for us.
type Regs []byte

func (r Regs) at(off, size int) unsafe.Pointer {
	if off < 0 || off+size > len(r) {
		panic(fmt.Sprintf("vfio: register %#x of %#x bytes", off, len(r)))
	}
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(r)), off)
}

// Load32 reads 32 bits.
func (r Regs) Load32(off int) uint32 { return atomic.LoadUint32((*uint32)(r.at(off, 4))) }

// Store32 writes 32 bits of memory. On amd64 it exchanges, which a register must not
// see: Write32 is for those. QEMU (10.0) even aborts now and then where one processor
// exchanges with a register while another changes the map of the memory
// (iotlb_to_section).
func (r Regs) Store32(off int, v uint32) { atomic.StoreUint32((*uint32)(r.at(off, 4)), v) }

// Read8 reads a register of 8 bits.
func (r Regs) Read8(off int) uint8 { return *(*uint8)(r.at(off, 1)) }

// Write8 writes a register of 8 bits.
func (r Regs) Write8(off int, v uint8) { *(*uint8)(r.at(off, 1)) = v }

// Read16 reads a register of 16 bits.
func (r Regs) Read16(off int) uint16 { return *(*uint16)(r.at(off, 2)) }

// Write16 writes a register of 16 bits.
func (r Regs) Write16(off int, v uint16) { *(*uint16)(r.at(off, 2)) = v }

// Read32 reads a register of 32 bits.
func (r Regs) Read32(off int) uint32 { return r.Load32(off) }

// Write32 writes a register of 32 bits, after all that was written before. It never
// reads: some registers change when they are read.
//
//go:noinline
func (r Regs) Write32(off int, v uint32) {
	p := (*uint32)(r.at(off, 4))
	if runtime.GOARCH == "amd64" { // stores stay in order, and the compiler moves none over a call
		*p = v
		return
	}
	atomic.StoreUint32(p, v)
}

// Put64 writes 64 bits of memory, not ordered with anything.
func (r Regs) Put64(off int, v uint64) { *(*uint64)(r.at(off, 8)) = v }

// Put16 writes 16 bits of memory, likewise.
func (r Regs) Put16(off int, v uint16) { *(*uint16)(r.at(off, 2)) = v }

// Get32 reads 32 bits of memory, likewise.
func (r Regs) Get32(off int) uint32 { return *(*uint32)(r.at(off, 4)) }
