package onload

import (
	"io"
	"math"
	"sync"
	"syscall"
)

// ReadFrom implements io.ReaderFrom: it sends what it reads from r. What
// another accelerated connection receives, and what a regular file holds, does
// not pass through a buffer, nor does a part of that in an io.LimitedReader or
// io.SectionReader.
func (c *TCPConn) ReadFrom(r io.Reader) (int64, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.readFromKernel(r)
	}
	n, err := c.readFrom(r)
	return n, c.copyError("readfrom", err)
}

func (c *TCPConn) readFrom(r io.Reader) (n int64, err error) {
	most, from := int64(math.MaxInt64), r
	limited, _ := r.(*io.LimitedReader)
	if limited != nil {
		most, from = limited.N, limited.R
	}
	rest := true
	switch from := from.(type) {
	case *TCPConn:
		if from.ok() && from.s != nil {
			n, rest, err = c.splice(from, most)
		}
	default:
		if f := openSource(from); f != nil {
			n, rest, err = c.sendFile(f, most)
			f.close()
		}
		if section, ok := from.(*io.SectionReader); ok {
			_, _ = section.Seek(n, io.SeekCurrent) // fails only before the start
		}
	}
	if limited != nil {
		limited.N -= n
	}
	if !rest || err != nil {
		return n, err
	}
	k, err := copyBuffered(writerOnly{c}, r)
	return n + k, err
}

// splice sends what from receives, up to most bytes. rest: some are left to be
// copied.
func (c *TCPConn) splice(from *TCPConn, most int64) (n int64, rest bool, err error) {
	n, rest, fromErr, err := c.s.SpliceFrom(from.s, most)
	switch {
	case err != nil:
		err = c.tellOnce(err, syscall.EPIPE)
	case fromErr != nil:
		err = from.tellOnce(fromErr, io.EOF)
	}
	if err == io.EOF {
		err = nil
	}
	return n, rest, cause("splice", err)
}

// WriteTo implements io.WriterTo: it writes what it receives to w. To another
// accelerated connection that is its ReadFrom.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteTo(w)
	}
	var n int64
	var err error
	if to, ok := w.(*TCPConn); ok && to.ok() && to.s != nil {
		n, err = to.ReadFrom(c)
	} else {
		n, err = copyBuffered(w, readerOnly{c})
	}
	return n, c.copyError("writeto", err)
}

// copyBuffers are what ReadFrom and WriteTo copy through.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func copyBuffered(dst io.Writer, src io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(dst, src, b[:])
}

// readFromKernel shows net the connection behind one of ours, so that it can
// splice.
func (c *TCPConn) readFromKernel(r io.Reader) (int64, error) {
	if from, ok := r.(*TCPConn); ok && from.ok() && from.k != nil {
		return c.k.ReadFrom(from.k.TCPConn)
	}
	if l, ok := r.(*io.LimitedReader); ok {
		if from, ok := l.R.(*TCPConn); ok && from.ok() && from.k != nil {
			kl := io.LimitedReader{R: from.k.TCPConn, N: l.N}
			n, err := c.k.ReadFrom(&kl)
			l.N = kl.N
			return n, err
		}
	}
	return c.k.ReadFrom(r)
}
