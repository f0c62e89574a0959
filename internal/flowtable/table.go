// Package flowtable is a list of the TCP connections of a process, in memory that
// outlives the process: whoever holds its descriptor learns which peers a dead process
// has left behind.
//
// An entry is written once when a connection is established, and once when it ends.
// Nothing is written for a segment.
package flowtable

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EntrySize is what a connection takes, in bytes.
const EntrySize = 64

// Most is the number of connections that a Table has room for. Those beyond are not in
// it.
const Most = 1<<20 - 1

const (
	magic = 0x31776f6c66646c6f // "oldflow1"
	size  = (Most + 1) * EntrySize

	free, live = 0, 1

	blockLen = 64 // entries that a Writer takes at once
)

// header is the first entry's place.
type header struct {
	magic uint64
	used  atomic.Uint32 // entries that Writers have taken
	_     [EntrySize - 12]byte
}

// entry is a connection. Addresses are as netip.Addr.As16 has them.
type entry struct {
	state         uint32    // free or live; the rest counts only if it is live
	next          uint32    // of the Writer's free entries
	link          uint32    // index of the interface of a link-local address
	seq           uint32    // sequence number of our first octet
	ports         [2]uint16 // local, remote
	_             [12]byte
	local, remote [16]byte
}

// Table is the list of one process. Its Writers may be used at the same time.
type Table struct {
	fd      int
	header  *header
	entries *[Most + 1]entry // the first is header
}

// New makes a table in a memory file (memfd_create(2)), of which nothing is allocated
// that is not written.
func New() (*Table, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &l); err == nil && l.Cur < size {
		return nil, fmt.Errorf("the table of connections is a file of %d MiB, and RLIMIT_FSIZE (ulimit -f) allows less", size>>20)
	}
	fd, err := unix.MemfdCreate("onload-flows", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("the table of connections: memfd_create: %w", err)
	}
	t, err := fill(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("the table of connections: %w", err)
	}
	return t, nil
}

// seals keep the size.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func fill(fd int) (*Table, error) {
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, err
	}
	t, err := mapped(fd)
	if err != nil {
		return nil, err
	}
	t.header.magic = magic
	return t, nil
}

func mapped(fd int) (*Table, error) {
	p, err := unix.MmapPtr(fd, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	t := &Table{fd: fd, header: (*header)(p), entries: (*[Most + 1]entry)(p)}
	// Not with Close: connections may end after the engine that they belonged to.
	runtime.AddCleanup(t, func(p unsafe.Pointer) { _ = unix.MunmapPtr(p, size) }, p)
	return t, nil
}

// FD is the table's descriptor, which Read takes; the Table's own.
func (t *Table) FD() int { return t.fd }

// Close closes the descriptor. The memory stays as long as Writers are in use.
func (t *Table) Close() error {
	if t.fd < 0 {
		return nil
	}
	return unix.Close(t.fd)
}
