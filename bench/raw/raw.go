// Package raw moves frames between two AF_XDP sockets that spin, without any
// protocol: the floor below every stack over the same sockets.
package raw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const (
	port     = 7777
	minFrame = 64               // bytes, Ethernet header included
	patience = 20 * time.Second // a longer wait is for something that never comes, however busy the machine is
)

// Config is an end of the link.
type Config struct {
	Interface     string
	Mode          afxdp.Mode
	Local, Remote netip.Addr
	LMAC, RMAC    [6]byte
	MTU           int
	// Copy has payloads copied and summed from and into memory, as every stack
	// with sockets must.
	Copy bool
}

// end is an open Config. Frames look like UDP, so that the steering program
// takes them.
type end struct {
	dev *afxdp.Device
	q   driver.Queue
	mtu int
	rx  [256]ring.Desc
	// stop ends a wait for frames.
	stop atomic.Bool
	tx   []ring.Desc
	hdr  ip.Header
	// user is the memory that payloads are copied from and to, at pos; nil:
	// they are not.
	user []byte
	pos  int
	sum  uint16
}

// userLen is the size in bytes of the buffers that streams are written from
// and read into.
const userLen = 64 << 10

func open(c Config) (*end, error) {
	dev, err := afxdp.Open(afxdp.Config{Interface: c.Interface, Mode: c.Mode})
	if err != nil {
		return nil, err
	}
	if err := dev.AddPort(ip.ProtoUDP, netip.AddrPortFrom(c.Local, port)); err != nil {
		dev.Close()
		return nil, err
	}
	e := &end{dev: dev, q: dev.Queues()[0], mtu: c.MTU}
	e.hdr.Init(c.LMAC, c.RMAC, 0, c.Local, c.Remote, ip.ProtoUDP, 0, 64)
	e.q.Refill()
	if c.Copy {
		e.user = make([]byte, userLen)
	}
	return e, nil
}

func (e *end) path() string { return "AF_XDP " + e.dev.Caps().Mode }

// room is the payload of one packet.
func (e *end) room() int { return e.mtu - 28 }

// packets is how many a message of size bytes takes.
func (e *end) packets(size int) int { return max(1, (size+e.room()-1)/e.room()) }

// put appends a packet of size payload bytes to the batch in tx; false: there
// is no free frame. The payload is what the frames held before but for seq,
// unless it is copied.
func (e *end) put(size int, seq uint32) bool {
	a := e.dev.Arena()
	l4 := 8 + size
	if short := minFrame - e.hdr.Len() - l4; short > 0 {
		l4 += short
	}
	left := e.hdr.Len() + l4
	first := len(e.tx)
	for left > 0 {
		f, ok := a.Alloc()
		if !ok {
			for _, d := range e.tx[first:] {
				a.Free(d.Frame)
			}
			e.tx = e.tx[:first]
			return false
		}
		d := ring.Desc{Frame: f, Off: ring.Headroom}
		n := min(left, a.FrameSize()-ring.Headroom)
		left -= n
		d.Len = uint16(n)
		if e.user != nil {
			e.take(a.Bytes(f)[ring.Headroom:][:n])
		}
		if left > 0 {
			d.Flags |= ring.FlagMore
		}
		e.tx = append(e.tx, d)
	}
	b := a.Bytes(e.tx[first].Frame)[ring.Headroom:]
	e.hdr.Put(b, l4, 0, 0)
	u := b[e.hdr.Len():]
	binary.BigEndian.PutUint16(u[0:], port)
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(l4))
	binary.BigEndian.PutUint16(u[6:], 0)
	binary.BigEndian.PutUint32(u[8:], seq)
	return true
}

// take fills b from user's memory.
func (e *end) take(b []byte) {
	if e.pos+len(b) > len(e.user) {
		e.pos = 0
	}
	e.sum = ip.Add(e.sum, ip.SumCopy(b, e.user[e.pos:e.pos+len(b)]))
	e.pos += len(b)
}

// give copies b into user's memory.
func (e *end) give(b []byte) {
	if e.pos+len(b) > len(e.user) {
		e.pos = 0
	}
	e.sum = ip.Add(e.sum, ip.SumCopy(e.user[e.pos:], b))
	e.pos += len(b)
}

// flush transmits the batch and returns when the ring has taken all.
func (e *end) flush() error {
	ds := e.tx
	var end time.Time
	for len(ds) > 0 {
		n := e.q.TxBatch(ds)
		for _, d := range ds[:n] {
			e.dev.Arena().Release(d.Frame)
		}
		ds = ds[n:]
		if err := e.q.Kick(); err != nil {
			return err
		}
		e.q.Reclaim()
		if n == 0 {
			if end.IsZero() {
				end = time.Now().Add(patience)
			} else if time.Now().After(end) {
				return errors.New("raw: the transmit ring stays full")
			}
		}
	}
	e.tx = e.tx[:0]
	return nil
}

var errSilence = errors.New("raw: no frame came in time")

// recv spins until frames come and returns how many packets, their bytes
// with all headers, and what the first carries.
func (e *end) recv(wait time.Duration) (packets, bytes int, seq uint32, err error) {
	return e.recvInto(e.rx[:], wait)
}

func (e *end) recvInto(rx []ring.Desc, wait time.Duration) (packets, bytes int, seq uint32, err error) {
	if !e.q.RxPending() {
		var end time.Time
		for i := 1; !e.q.RxPending(); i++ {
			if i%4096 == 0 { // rarely: the clock is as dear as many looks at the ring
				if now := time.Now(); e.stop.Load() {
					return 0, 0, 0, errSilence
				} else if end.IsZero() {
					end = now.Add(wait)
				} else if now.After(end) {
					return 0, 0, 0, errSilence
				}
			}
		}
	}
	a := e.dev.Arena()
	ds := rx[:e.q.RxBatch(rx)]
	head := true
	for i, d := range ds {
		if head {
			if packets == 0 {
				seq = binary.BigEndian.Uint32(a.Data(ds[i])[e.hdr.Len()+8:])
			}
			packets++
		}
		head = d.Flags&ring.FlagMore == 0
		bytes += int(d.Len)
		if e.user != nil {
			e.give(a.Data(d))
		}
		a.Free(d.Frame)
	}
	e.q.Refill()
	return packets, bytes, seq, nil
}

// message sends size bytes in as many packets as it takes.
func (e *end) message(size int, seq uint32) error {
	for left := size; ; left -= e.room() {
		if !e.put(max(1, min(left, e.room())), seq) {
			return fmt.Errorf("raw: no free frame")
		}
		if left <= e.room() {
			return e.flush()
		}
	}
}

// await receives the packets of one message.
func (e *end) await(packets int, wait time.Duration) (seq uint32, err error) {
	for got := 0; got < packets; {
		n, _, s, err := e.recv(wait)
		if err != nil {
			return 0, err
		}
		got, seq = got+n, s
	}
	return seq, nil
}
