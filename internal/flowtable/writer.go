package flowtable

import (
	"net/netip"
	"sync/atomic"
)

// Writer adds and removes connections. One goroutine at a time uses it.
type Writer struct {
	t    *Table
	free uint32 // the first of the free entries; 0: none
}

// Writer returns a writer of its own.
func (t *Table) Writer() *Writer { return &Writer{t: t} }

// Slot is where a connection stands; 0 is nowhere.
type Slot uint32

// Add enters a connection whose first octet has the sequence number seq. link counts for
// link-local addresses. It returns 0 where the table is full.
func (w *Writer) Add(local, remote netip.AddrPort, link int, seq uint32) Slot {
	i := w.free
	if i == 0 {
		if i = w.block(); i == 0 {
			return 0
		}
	}
	e := &w.t.entries[i]
	w.free = e.next
	e.link = 0
	if remote.Addr().IsLinkLocalUnicast() {
		e.link = uint32(link)
	}
	e.seq = seq
	e.ports = [2]uint16{local.Port(), remote.Port()}
	e.local, e.remote = local.Addr().As16(), remote.Addr().As16()
	atomic.StoreUint32(&e.state, live) // last: a process that is killed before leaves no half of an entry
	return Slot(i)
}

// Remove takes a connection out. Slot 0 is ignored.
func (w *Writer) Remove(s Slot) {
	if s == 0 {
		return
	}
	e := &w.t.entries[s]
	e.state = free // nobody reads it before the process has ended
	e.next, w.free = w.free, uint32(s)
}

// block takes entries that nobody has used, and returns the first of them.
func (w *Writer) block() uint32 {
	used := &w.t.header.used
	var end uint32
	for {
		end = used.Load() + blockLen
		if end > Most {
			return 0
		}
		if used.CompareAndSwap(end-blockLen, end) {
			break
		}
	}
	first := end - blockLen + 1
	for i := first; i < end; i++ {
		w.t.entries[i].next = i + 1
	}
	w.t.entries[end].next = 0
	return first
}
