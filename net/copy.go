package onload

import (
	"io"
	"math"
	"sync"
	"syscall"
)

// ReadFrom reads from r and sends the bytes.
func (c *stackTCP) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.readFrom(r)
	return n, c.copyError("readfrom", err)
}

func (c *stackTCP) readFrom(r io.Reader) (n int64, err error) {
	most, from := int64(math.MaxInt64), r
	limited, _ := r.(*io.LimitedReader)
	if limited != nil {
		most, from = limited.N, limited.R
	}
	rest := true
	if other := stackOf(from); other != nil {
		n, rest, err = c.splice(other, most)
	} else if f := openSource(from); f != nil {
		n, rest, err = c.sendFile(f, most)
		f.close()
	}
	if section, ok := from.(*io.SectionReader); ok {
		_, _ = section.Seek(n, io.SeekCurrent) // fails only before the start
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

// splice sends the bytes that from receives, at most so many. It reports whether
// some are left to be copied.
func (c *stackTCP) splice(from *stackTCP, most int64) (n int64, rest bool, err error) {
	n, rest, fromErr, err := c.s.SpliceFrom(from.s, most)
	if c.next(err) != nil || from.next(fromErr) != nil {
		return n, true, nil // by the kernel, with a copy
	}
	switch {
	case err != nil:
		err = c.broken.TellOnce(err, syscall.EPIPE)
	case fromErr != nil:
		err = from.broken.TellOnce(fromErr, io.EOF)
	}
	if err == io.EOF {
		err = nil
	}
	return n, rest, cause("splice", err)
}

// WriteTo receives bytes and writes them to w. If w is another accelerated
// connection, its ReadFrom does the work.
func (c *stackTCP) WriteTo(w io.Writer) (int64, error) {
	var n int64
	var err error
	if to := stackOf(w); to != nil {
		n, err = to.ReadFrom(c)
	} else {
		n, err = copyBuffered(w, readerOnly{c})
	}
	return n, c.copyError("writeto", err)
}

// stackOf returns the connection of a stack that v is, or has behind it; else nil.
func stackOf(v any) *stackTCP {
	switch c := v.(type) {
	case *stackTCP:
		return c
	case *TCPConn:
		s, _ := c.via().(*stackTCP)
		return s
	}
	return nil
}

// copyBuffers has the buffers of ReadFrom and WriteTo.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func copyBuffered(dst io.Writer, src io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(dst, src, b[:])
}

// writerOnly and readerOnly hide the methods by which io.Copy would call back.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }
