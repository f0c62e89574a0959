package onload

import (
	"io"
	"net"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
)

// Buffers contains zero or more runs of bytes to write. On a TCPConn, accelerated or
// the kernel's, WriteTo is one gathered write: short buffers share packets. On a
// UDPConn it sends one datagram.
//
// It is a type of its own, since net.Buffers knows only net's connections: on a
// TCPConn of this package it writes each buffer by itself.
type Buffers [][]byte

var (
	_ io.WriterTo = (*Buffers)(nil)
	_ io.Reader   = (*Buffers)(nil)
)

// WriteTo writes the buffers to w. It modifies the slice v as well as v[i] for
// 0 <= i < len(v), but does not modify v[i][j] for any i, j.
func (v *Buffers) WriteTo(w io.Writer) (n int64, err error) {
	switch c := w.(type) {
	case *TCPConn:
		switch via := c.via().(type) {
		case *stackTCP:
			n, err = via.writeBuffers(*v)
			v.consume(n)
			return n, err
		case *kernelTCP:
			w = via.TCPConn
		}
	case *UDPConn:
		if k, ok := c.via().(*kernelUDP); ok {
			w = k.UDPConn
			break
		}
		n, err = engine.WriteDatagram(c, *v)
		v.consume(n)
		return n, err
	}
	return (*net.Buffers)(v).WriteTo(w)
}

// Read reads from the buffers. It modifies the slice v as well as v[i] for
// 0 <= i < len(v), but does not modify v[i][j] for any i, j.
func (v *Buffers) Read(p []byte) (n int, err error) { return (*net.Buffers)(v).Read(p) }

// consume takes n bytes from the front, and empty buffers.
func (v *Buffers) consume(n int64) {
	for len(*v) > 0 {
		if first := int64(len((*v)[0])); n < first {
			(*v)[0] = (*v)[0][n:]
			return
		} else {
			n -= first
		}
		(*v)[0] = nil
		*v = (*v)[1:]
	}
}

// writeBuffers writes all of v, and returns how many bytes it has taken.
func (c *stackTCP) writeBuffers(v [][]byte) (int64, error) {
	n, err := engine.WriteStream(c.s, v)
	if err != nil {
		if total, err, ok := c.writeBuffersOn(v, n, err); ok {
			return total, err
		}
		err = c.opError("writev", "writev", c.broken.TellOnce(err, syscall.EPIPE))
	}
	return n, err
}
