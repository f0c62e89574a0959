package engine

import (
	"io"
	"sync"
	"syscall"
)

// gather is how many bytes are gathered before a Write: as many as one packet to a
// device that segments, and no fewer than a datagram can have.
const gather = 64 << 10

var gatherings = sync.Pool{New: func() any { return new([gather]byte) }}

// WriteStream writes all buffers, short ones together, so that they share packets. It
// returns how many bytes w has taken.
func WriteStream(w io.Writer, v [][]byte) (total int64, err error) {
	b := gatherings.Get().(*[gather]byte)
	defer gatherings.Put(b)
	for len(v) > 0 {
		p := v[0]
		k := 1
		if len(v) > 1 && len(p)+len(v[1]) <= gather {
			n := 0
			for k = 0; k < len(v) && n+len(v[k]) <= gather; k++ {
				n += copy(b[n:], v[k])
			}
			p = b[:n]
		}
		n, err := w.Write(p)
		total += int64(n)
		if err != nil {
			return total, err
		}
		v = v[k:]
	}
	return total, nil
}

// WriteDatagram writes all buffers as one datagram, as writev(2) does.
func WriteDatagram(w io.Writer, v [][]byte) (int64, error) {
	b := gatherings.Get().(*[gather]byte)
	defer gatherings.Put(b)
	n := 0
	for _, p := range v {
		if len(p) > gather-n {
			return 0, syscall.EMSGSIZE
		}
		n += copy(b[n:], p)
	}
	if n == 0 { // poll.FD, too, sends nothing then
		return 0, nil
	}
	n, err := w.Write(b[:n])
	return int64(n), err
}
