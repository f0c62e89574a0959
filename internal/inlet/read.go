package inlet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Packet is one of a flow that the inlet takes.
type Packet struct {
	Link          int // index of the link that it came by
	UDP           bool
	Local, Remote netip.AddrPort
	TOS, TTL      uint8
	// Data is the packet from the transport header on. It may be several segments,
	// joined.
	Data []byte
	// Summed says that somebody has verified the transport's checksum.
	Summed bool
}

// batch is the packets that are delivered together.
type batch struct {
	packets []Packet
	record  ringbuf.Record
	mem     []byte
}

// A batch is delivered when it has that many packets, or bytes.
const (
	batchPackets = 64
	batchBytes   = 128 << 10
)

// The layout of struct packet in bpf/inlet.c.
const (
	offLink   = 0
	offLen    = 4
	offGSO    = 8
	offCut    = 12
	offProto  = 16
	offHeader = 24
	offData   = 64
)

// openRing makes all that Start needs, so that an inlet that takes packets can be read.
func (in *Inlet) openRing() (err error) {
	if in.ring, err = ringbuf.NewReader(in.objs.Packets); err != nil {
		return err
	}
	in.ring.SetDeadline(time.Unix(1, 0)) // Read never waits
	fd, err := unix.FcntlInt(uintptr(in.objs.Packets.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	in.news = os.NewFile(uintptr(fd), "inlet")
	in.raw, err = in.news.SyscallConn()
	return err
}

// Start begins to read. deliver is called by one goroutine, with packets that are
// valid until it returns.
func (in *Inlet) Start(deliver func([]Packet)) {
	in.deliver, in.done = deliver, make(chan struct{})
	go func() {
		defer close(in.done)
		// Each packet that comes to an empty ring is an edge. drain looks first, since
		// the netpoller forgets an edge that came before it waits.
		err := in.raw.Read(func(uintptr) bool { return !in.drain() })
		if err != nil && !in.closing.Load() {
			in.log.Error("inlet: packets by interfaces that are not accelerated are lost", zap.Error(err))
		}
	}()
}

// drain delivers all that is on the ring. false: the ring cannot be read.
func (in *Inlet) drain() bool {
	b := &in.batch
	for {
		switch err := in.ring.ReadInto(&b.record); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			in.flush()
			in.noteLost()
			return true
		case err != nil:
			in.log.Error("inlet: packets by interfaces that are not accelerated are lost", zap.Error(err))
			return false
		}
		b.add(b.record.RawSample)
		if len(b.packets) >= batchPackets || len(b.mem) >= batchBytes {
			in.flush()
		}
	}
}

func (in *Inlet) flush() {
	if len(in.batch.packets) > 0 {
		in.deliver(in.batch.packets)
		in.batch.packets, in.batch.mem = in.batch.packets[:0], in.batch.mem[:0]
	}
}

// noteLost logs that packets found no room on the ring, or flows none in the table.
func (in *Inlet) noteLost() {
	var lost uint64
	if in.objs.Lost.Get(&lost) == nil && lost != in.lost {
		in.log.Debug("inlet: packets are lost", zap.Uint64("packets", lost-in.lost))
		in.lost = lost
	}
	if n := in.known.without.Load(); n != in.without {
		in.log.Debug("inlet: flows whose packets are not taken", zap.Uint64("flows", n-in.without))
		in.without = n
	}
}

// add appends the packet that a record holds. The kernel wrote it, and checked the
// packet, so a record that makes no sense is left out.
func (b *batch) add(record []byte) {
	if len(record) < offData {
		return
	}
	u32 := func(off int) int { return int(binary.NativeEndian.Uint32(record[off:])) }
	p := Packet{Link: u32(offLink), UDP: u32(offProto) == unix.IPPROTO_UDP}
	l4 := record[offData:]
	if n := u32(offLen); n < minTransport(p.UDP) || n > len(l4) {
		return
	} else {
		l4 = l4[:n]
	}
	if h := record[offHeader:]; h[0]>>4 == 6 {
		p.TOS, p.TTL = h[0]<<4|h[1]>>4, h[7]
		p.setEnds(netip.AddrFrom16([16]byte(h[24:])), netip.AddrFrom16([16]byte(h[8:])), l4)
	} else {
		p.TOS, p.TTL = h[1], h[8]
		p.setEnds(netip.AddrFrom4([4]byte(h[16:])), netip.AddrFrom4([4]byte(h[12:])), l4)
	}
	start := len(b.mem)
	b.mem = append(b.mem, l4...)
	p.Data = b.mem[start:len(b.mem):len(b.mem)]
	// A UDP socket with a filter gets verified datagrams only; segments were verified
	// by whoever joined them.
	p.Summed = p.UDP || u32(offGSO) != 0
	if u32(offCut) != 0 && !p.UDP {
		const flags, fin, psh = 13, 1, 8 // of RFC 9293, 3.1
		p.Data[flags] &^= fin | psh      // those are the end's
	}
	b.packets = append(b.packets, p)
}

// setEnds sets the ends of p, whose ports l4 begins with.
func (p *Packet) setEnds(local, remote netip.Addr, l4 []byte) {
	p.Remote = netip.AddrPortFrom(remote, binary.BigEndian.Uint16(l4))
	p.Local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(l4[2:]))
}

// minTransport is the least length of a transport header, in bytes.
func minTransport(udp bool) int {
	if udp {
		return 8
	}
	return 20
}
