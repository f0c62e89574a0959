package ip

import "encoding/binary"

// Refragment cuts the Ethernet frame of a fragment into frames of at most most
// bytes each, which say together what it says, and gives them to emit one after the
// other, each in memory of its own. A frame that fits is given as it is. It returns
// false where frame is not a fragment, or its headers leave no room.
func Refragment(frame []byte, most int, emit func([]byte)) bool {
	var p Packet
	if Parse(frame, len(frame), &p) != nil || !p.Fragment {
		return false
	}
	end := p.L4Off + p.L4Len
	if end <= most {
		emit(frame[:end])
		return true
	}
	step := (most - p.L4Off) &^ 7 // RFC 791, 3.2; RFC 8200, 4.5
	if step <= 0 {
		return false
	}
	for off := 0; off < p.L4Len; off += step {
		n := min(step, p.L4Len-off)
		b := append(append(make([]byte, 0, p.L4Off+n), frame[:p.L4Off]...), frame[p.L4Off+off:][:n]...)
		p.putFragment(b, p.FragOff+off, p.MoreFrags || off+n < p.L4Len)
		emit(b)
	}
	return true
}

// putFragment corrects the headers of the frame b, which were p's: it is the
// fragment at off, and not the last where more.
func (p *Packet) putFragment(b []byte, off int, more bool) {
	h := b[p.NetOff:]
	if p.V6 {
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-ipv6Len))
		field := uint16(off)
		if more {
			field |= 1
		}
		binary.BigEndian.PutUint16(b[p.L4Off-fragLen+2:], field)
		return
	}
	field := binary.BigEndian.Uint16(h[6:])&^(fragOffset|flagMF) | uint16(off/8)
	if more {
		field |= flagMF
	}
	binary.BigEndian.PutUint16(h[6:], field)
	putLength4(h[:p.L4Off-p.NetOff], len(h))
}

// putLength4 makes total the length of the packet whose IPv4 header is h, and
// corrects the header's checksum.
func putLength4(h []byte, total int) {
	binary.BigEndian.PutUint16(h[2:], uint16(total))
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], ^Sum(h))
}
