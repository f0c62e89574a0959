package afxdp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// miniTCP is the least of TCP that makes a kernel peer send: it accepts one
// connection and acknowledges.
type miniTCP struct {
	t        *testing.T
	d        *Device
	us, them host
	sport    uint16
	seq, ack uint32
	fin      uint32 // where the peer's data ends, 0: not known
	largest  int
	early    map[uint32][]byte // segments that came before their turn
	data     bytes.Buffer
}

const (
	finFlag = 1
	synFlag = 2
	ackFlag = 16
)

func (m *miniTCP) reply(flags byte, options []byte) {
	b := make([]byte, 20, 40)
	binary.BigEndian.PutUint16(b, 80)
	binary.BigEndian.PutUint16(b[2:], m.sport)
	binary.BigEndian.PutUint32(b[4:], m.seq)
	binary.BigEndian.PutUint32(b[8:], m.ack)
	b = append(b, options...)
	b[12], b[13] = byte(len(b)/4)<<4, flags
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	binary.BigEndian.PutUint16(b[16:], sum(pseudo(m.us.addr, m.them.addr, tcp, len(b)), b))
	send(m.t, m.d, m.d.queues.all()[0], ethOf(m.us.mac, m.them.mac, ipOf(m.us.addr, m.them.addr, tcp, 1, 0x4000, 0, b)))
}

// input takes one frame, and reports whether the peer has closed.
func (m *miniTCP) input(b []byte) (closed bool) {
	seg := b[34:]
	if n := int(binary.BigEndian.Uint16(b[16:])); n > 0 { // 0 above 64 KiB
		seg = b[34 : 14+n]
	}
	flags, seq := seg[13], binary.BigEndian.Uint32(seg[4:])
	data := seg[seg[12]>>4*4:]
	if flags&synFlag != 0 {
		m.sport, m.ack = binary.BigEndian.Uint16(seg), seq+1
		m.reply(synFlag|ackFlag, []byte{2, 4, 1460 >> 8, 1460 & 255, 1, 3, 3, 2}) // 256 KiB: veth queues 256 packets in native mode
		m.seq++
		return false
	}
	if len(data) == 0 && flags&finFlag == 0 {
		return false
	}
	m.largest = max(m.largest, len(b))
	if flags&finFlag != 0 {
		m.fin = seq + uint32(len(data))
	}
	if int32(seq-m.ack) >= 0 && len(data) > 0 {
		m.early[seq] = bytes.Clone(data)
	}
	for next := m.early[m.ack]; next != nil; next = m.early[m.ack] {
		delete(m.early, m.ack)
		m.data.Write(next)
		m.ack += uint32(len(next))
	}
	if closed = m.fin != 0 && m.ack == m.fin; closed {
		m.ack++
	}
	m.reply(ackFlag, nil)
	return closed
}

// A kernel TCP peer sends its large packets whole in generic mode, and cut to
// the MTU in native mode.
func TestLargeReceive(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Neighbors: true})
			d := openAt(t, p.A, Config{Mode: mode})
			must(t, d.AddPort(tcp, netip.AddrPortFrom(p.A.Addr4, 80)))
			want := pattern(4 << 20)
			done := make(chan error, 1)
			go func() {
				c, err := p.B.Dial("tcp", net.JoinHostPort(p.A.Addr4.String(), "80"))
				if err == nil {
					_, err = io.Copy(c, bytes.NewReader(want))
					c.Close()
				}
				done <- err
			}()
			m := &miniTCP{t: t, d: d, us: v4of(p.A), them: v4of(p.B), seq: 1000, early: map[uint32][]byte{}}
			for start := time.Now(); ; {
				b, _ := receive(t, d, d.queues.all()[0], patience)
				if b != nil && m.input(b) {
					break
				}
				if time.Since(start) > patience {
					t.Fatalf("%d bytes so far, %d early, %+v", m.data.Len(), len(m.early), d.queues.all()[0].Stats())
				}
			}
			must(t, <-done)
			if !bytes.Equal(m.data.Bytes(), want) {
				t.Errorf("received %d bytes, not what was sent", m.data.Len())
			}
			large := m.largest > 1514
			if large != d.Caps().LargeRx {
				t.Errorf("largest packet %d, LargeRx %v", m.largest, d.Caps().LargeRx)
			}
			if mode == ModeGeneric && m.largest < 30000 {
				t.Errorf("largest packet only %d", m.largest)
			}
		})
	}
}
