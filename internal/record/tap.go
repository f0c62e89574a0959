package record

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/bpf"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// DefaultSnapLen keeps all of a packet: an IP packet, the Ethernet header and two VLAN
// tags, in bytes.
const DefaultSnapLen = 65535 + 22

// Options say what a Tap records.
type Options struct {
	SnapLen   int                  // bytes kept of each packet; 0: DefaultSnapLen
	Filter    []bpf.RawInstruction // nil: all packets
	Interface string               // by its name; empty: all
	Direction Direction            // of the packets
	NoMatch   bool                 // only received packets that belong to no socket
}

// Direction is that of the packets that are recorded.
type Direction uint8

const (
	Both Direction = iota
	In
	Out
)

// Tap records packets in a ring. It is a driver.Tap.
type Tap struct {
	m      memory
	snap   int
	filter *bpf.VM
	only   string
	way    Direction
	strays bool // Options.NoMatch
	off    atomic.Bool

	// Under the lock of the stack that has the Tap.
	next    uint64 // end of the last record
	lost    uint64
	named   []bool            // of interfaces, by their number: the ring has their names
	reasons map[string]uint16 // that the ring has
	whole   []byte            // a packet of several frames, for the filter

	// Of the last Received. Its records are not published before Done.
	batch []received
	open  bool
	told  int // reasons that the ring had after the batch before
}

// received is a packet of the last Received: its first frame, and its record.
type received struct {
	frame ring.Frame
	at    uint64
}

var _ driver.Tap = (*Tap)(nil)

// NewTap makes a Tap that writes to mem, whose length is one of Size's, and which is zero
// and begins at a multiple of 8. interfaces are names by number, as driver.OpenTap has them.
func NewTap(mem []byte, interfaces []string, o *Options) (*Tap, error) {
	m, ok := over(mem)
	if !ok {
		return nil, syscall.EINVAL
	}
	t := &Tap{m: m, snap: o.SnapLen, only: o.Interface, way: o.Direction, strays: o.NoMatch, reasons: map[string]uint16{}, batch: make([]received, 0, 256)}
	if t.snap <= 0 {
		t.snap = DefaultSnapLen
	}
	if o.Filter != nil {
		vm, err := load(o.Filter)
		if err != nil {
			return nil, err
		}
		t.filter = vm
		t.whole = make([]byte, 0, DefaultSnapLen)
	}
	for i, name := range interfaces {
		t.name(&driver.TapPoint{Interface: name, Number: i})
	}
	m.tail.Store(t.next)
	m.magic.Store(magic)
	return t, nil
}

// End has the Tap record nothing any more. Anybody may call it.
func (t *Tap) End() { t.off.Store(true) }

// Received implements driver.Tap.
func (t *Tap) Received(at *driver.TapPoint, ds []ring.Desc) {
	t.batch, t.open = t.batch[:0], true
	if t.way == Out {
		return
	}
	t.record(at, ds, 0)
}

// Sent implements driver.Tap. If a batch that was received is open, Done publishes an
// answer with the packet that it answers.
func (t *Tap) Sent(at *driver.TapPoint, ds []ring.Desc) {
	if t.strays || t.way == In {
		return
	}
	t.record(at, ds, flagOut)
	if !t.open {
		t.m.tail.Store(t.next)
	}
}

func (t *Tap) record(p *driver.TapPoint, ds []ring.Desc, flags byte) {
	if t.off.Load() || t.only != "" && p.Interface != t.only {
		return
	}
	now := time.Now().UnixNano()
	for len(ds) > 0 {
		n, length := ring.PacketLen(ds)
		pkt := ds[:n]
		ds = ds[n:]
		if t.filter != nil && !t.passes(p.Arena, pkt, length) {
			continue
		}
		if !t.name(p) || !t.push(p, pkt, length, now, flags) {
			t.lose()
			continue
		}
	}
}

// push adds a packet for publication. false: there is no room.
func (t *Tap) push(p *driver.TapPoint, ds []ring.Desc, length int, now int64, flags byte) bool {
	keep := min(length, t.snap)
	at := t.next
	var h head
	h[atKind], h[atFlags] = kindPacket, flags
	h.put64(atTime, uint64(now))
	h.put32(atLength, uint32(length))
	h.put16(atLink, uint16(p.Number))
	h.put16(atQueue, uint16(p.Queue))
	to, ok := t.begin(&h, keep)
	if !ok {
		return false
	}
	for i := range ds {
		b := p.Arena.Data(ds[i])
		b = b[:min(len(b), keep)]
		t.m.put(to, b)
		to += uint64(len(b))
		keep -= len(b)
	}
	if flags&flagOut == 0 {
		t.batch = append(t.batch, received{ds[0].Frame, at})
	}
	return true
}

// begin writes the head of a record with n bytes of data, which go to position to.
func (t *Tap) begin(h *head, n int) (to uint64, ok bool) {
	size := padded(n)
	// Whatever the reader writes to head, no byte outside of the ring is written.
	if used := t.next - t.m.head.Load(); used > uint64(len(t.m.data)) || uint64(len(t.m.data))-used < size {
		return 0, false
	}
	h.put32(atSize, uint32(size))
	h.put32(atKept, uint32(n))
	t.m.put(t.next, h[:])
	to = t.next + recordSize
	t.next += size
	return to, true
}

// define writes a record whose data is text.
func (t *Tap) define(h *head, text string) bool {
	to, ok := t.begin(h, len(text))
	if ok {
		t.m.put(to, []byte(text))
	}
	return ok
}

// name writes the name of an interface, once. false: there is no room.
func (t *Tap) name(p *driver.TapPoint) bool {
	for p.Number >= len(t.named) {
		t.named = append(t.named, false)
	}
	if t.named[p.Number] {
		return true
	}
	h := head{atKind: kindInterface}
	h.put16(atLink, uint16(p.Number))
	t.named[p.Number] = t.define(&h, p.Interface)
	return t.named[p.Number]
}

func (t *Tap) lose() {
	t.lost++
	t.m.lost.Store(t.lost)
}

// Dropped implements driver.Tap.
func (t *Tap) Dropped(f ring.Frame, why string) {
	if !t.open {
		return
	}
	for i := range t.batch {
		r := &t.batch[i]
		if r.frame != f {
			continue
		}
		var b [2]byte
		n := t.reason(why)
		b[0], b[1] = byte(n), byte(n>>8)
		t.m.put(r.at+atReason, b[:])
		if why == driver.DropNoSocket {
			r.frame = noFrame // Done keeps it
		}
		return
	}
}

// noFrame stands for the frame of a packet that met no socket.
const noFrame = ^ring.Frame(0)

// reason numbers why, from 1 on. 0: the ring has no room for it.
func (t *Tap) reason(why string) uint16 {
	n, ok := t.reasons[why]
	if ok {
		return n
	}
	n = uint16(len(t.reasons) + 1)
	h := head{atKind: kindReason}
	h.put16(atReason, n)
	if !t.define(&h, why) {
		return 0
	}
	t.reasons[why] = n
	return n
}

// Done implements driver.Tap.
func (t *Tap) Done() {
	t.open = false
	if t.strays {
		t.keepStrays()
	}
	t.m.tail.Store(t.next)
}

// keepStrays takes back what a batch has recorded, but for packets that met no socket.
func (t *Tap) keepStrays() {
	met := false
	for i := range t.batch {
		if r := &t.batch[i]; r.frame == noFrame {
			met = true
		} else {
			t.m.put(r.at+atFlags, []byte{flagSkip})
		}
	}
	if !met && len(t.batch) > 0 && len(t.reasons) == t.told {
		t.next = t.batch[0].at
	}
	t.told = len(t.reasons)
}
