//go:build onload && linux

package netglue

import (
	"internal/onload"
	"io"
	"math"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
)

// fileReader reads a file into the frames that its bytes leave in.
type fileReader struct {
	fd   int
	bufs [stack.FillBuffers][]byte
	read func(bufs [][]byte) (int, error) // bound once
}

var fileReaders = sync.Pool{New: func() any {
	f := new(fileReader)
	f.read = func(bufs [][]byte) (int, error) {
		for {
			n, err := unix.Readv(f.fd, bufs)
			if err != unix.EINTR {
				return max(n, 0), err
			}
		}
	}
	return f
}}

// SendFile sends a regular file from its position on. One that says it is empty, as
// those of /proc do, may have to be read in one piece: that is left to others.
func (c *tcpConn) SendFile(fd uintptr, remain int64) (n int64, err error, handled bool) {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return 0, nil, false
	}
	if remain == 0 {
		remain = math.MaxInt64
	}
	f := fileReaders.Get().(*fileReader)
	defer func() {
		clear(f.bufs[:])
		fileReaders.Put(f)
	}()
	f.fd = int(fd)
	for n < remain {
		sent, readErr, err := c.s.Fill(remain-n, f.bufs[:], f.read)
		n += int64(sent)
		_, broken := err.(syscall.Errno)
		switch {
		case n == 0 && err != nil && !broken:
			return 0, nil, false // as poll.FD, which finds out when it writes
		case err != nil:
			return n, c.broken.TellOnce(err, syscall.EPIPE), true
		case readErr != nil:
			return n, readErr, true
		case sent == 0:
			return n, nil, true
		}
	}
	return n, nil, true
}

// Splice sends what another connection receives, in the frames that it arrived in.
func (c *tcpConn) Splice(from onload.Socket, remain int64) (n int64, handled bool, err error) {
	src, ok := from.(*tcpConn)
	if !ok {
		return 0, false, nil
	}
	n, rest, srcErr, err := c.s.SpliceFrom(src.s, remain)
	switch {
	case err != nil:
		err = c.broken.TellOnce(err, syscall.EPIPE)
	case srcErr != nil:
		err = src.broken.TellOnce(srcErr, io.EOF)
	case rest:
		k, err := copyRest(c, src, remain-n)
		return n + k, true, err
	}
	if err == io.EOF {
		err = nil
	}
	return n, true, err
}

// copyBuffers has the buffers of copyRest.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// copyRest sends by a buffer what could not be spliced.
func copyRest(dst, src *tcpConn, remain int64) (n int64, err error) {
	b := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(b)
	for n < remain {
		k, err := src.Read(b[:min(remain-n, int64(len(b)))])
		if k > 0 {
			w, werr := dst.Write(b[:k])
			n += int64(w)
			if werr != nil {
				return n, werr
			}
		}
		if err == io.EOF || k == 0 && err == nil {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
