package onload

import (
	"io"
	"math"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
)

// fileSource is a regular file that is read into the frames that it leaves in.
type fileSource struct {
	raw  syscall.RawConn
	at   int64 // where to read; below 0: at the file's own position
	left int64 // bytes of the section

	bufs [stack.FillBuffers][]byte
	iov  [stack.FillBuffers]unix.Iovec
	n    int // of them in use
	got  int
	err  error

	// Methods of this one, bound once.
	read  func(bufs [][]byte) (int, error)
	readv func(fd uintptr) bool
}

var fileSources = sync.Pool{New: func() any {
	f := new(fileSource)
	f.read, f.readv = f.fill, f.readOnce
	return f
}}

// openSource returns the regular file behind r, or nil. It rejects a file that says
// it is empty, as those of /proc do: such a file may have to be read in one piece.
func openSource(r io.Reader) *fileSource {
	at, left := int64(-1), int64(math.MaxInt64)
	var file any = r
	if section, ok := r.(*io.SectionReader); ok {
		pos, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil
		}
		file, at, left = section.Outer()
		at, left = at+pos, left-pos
	}
	// net takes the same types for a file.
	conn, ok := file.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	regular := false
	err = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		regular = unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0
	})
	if err != nil || !regular {
		return nil
	}
	f := fileSources.Get().(*fileSource)
	f.raw, f.at, f.left = raw, at, left
	return f
}

// close releases a fileSource that openSource returned.
func (f *fileSource) close() {
	f.raw = nil
	clear(f.bufs[:])
	fileSources.Put(f)
}

// sendFile sends the content of f, up to most bytes. rest says that it ended or
// failed before that. Then a copy through a buffer meets the same, and words it as
// net does.
func (c *stackTCP) sendFile(f *fileSource, most int64) (n int64, rest bool, err error) {
	for n < most && f.left > 0 {
		sent, readErr, err := c.s.Fill(min(most-n, f.left), f.bufs[:], f.read)
		n += int64(sent)
		f.left -= int64(sent)
		if f.at >= 0 {
			f.at += int64(sent)
		}
		if c.next(err) != nil {
			return n, true, nil // by the kernel, with a copy
		}
		if _, broken := err.(syscall.Errno); n == 0 && err != nil && !broken {
			return 0, true, nil // as net, which reads before it finds out
		}
		if err != nil {
			return n, false, cause("sendfile", c.broken.TellOnce(err, syscall.EPIPE))
		}
		if sent == 0 || readErr != nil {
			break
		}
	}
	return n, n < most, nil
}

// fill reads as much of the file as bufs hold.
func (f *fileSource) fill(bufs [][]byte) (int, error) {
	f.n = len(bufs)
	for i, b := range bufs {
		f.iov[i].Base = &b[0]
		f.iov[i].SetLen(len(b))
	}
	if err := f.raw.Read(f.readv); err != nil {
		return 0, err
	}
	return f.got, f.err
}

// readOnce reads into f.iov, with one system call.
func (f *fileSource) readOnce(fd uintptr) bool {
	for {
		var got uintptr
		var e syscall.Errno
		if f.at < 0 {
			got, _, e = unix.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&f.iov[0])), uintptr(f.n))
		} else {
			// The kernel takes the offset in two words. It ignores the second if
			// the first is wide enough.
			got, _, e = unix.Syscall6(unix.SYS_PREADV, fd, uintptr(unsafe.Pointer(&f.iov[0])), uintptr(f.n),
				uintptr(f.at), uintptr(f.at>>32), 0)
		}
		if e == unix.EINTR {
			continue
		}
		f.got, f.err = int(got), nil
		if e != 0 {
			f.got, f.err = 0, e
		}
		return true
	}
}
