package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

type raw = json.RawMessage

const (
	mostRequest = 64 << 10
	mostAnswer  = 16 << 20
	mostFiles   = 8 // with a line
)

var errTooLong = errors.New("the line is too long")

// Conn reads and writes lines with descriptors. The file is a Unix socket that does not
// block.
type Conn struct {
	f     *os.File
	most  int    // bytes of a line that is read
	ahead []byte // read, behind the last line
}

// NewConn returns a Conn of f for the side that asks. The Conn owns f.
func NewConn(f *os.File) *Conn { return &Conn{f: f, most: mostAnswer} }

// Close closes the connection.
func (c *Conn) Close() error { return c.f.Close() }

// File is the connection's socket.
func (c *Conn) File() *os.File { return c.f }

// WriteLine writes v, and descriptors with its first byte.
func (c *Conn) WriteLine(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if b = append(b, '\n'); len(files) > 0 {
		n, err := c.sendWith(b, files)
		if err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil // a write of nothing fails where the peer has answered and gone
		}
	}
	_, err = c.f.Write(b)
	return err
}

func (c *Conn) sendWith(b []byte, files []*os.File) (n int, err error) {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn() // Fd would make the file block
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		if err != nil {
			return 0, err
		}
	}
	rc, err := c.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := rc.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), b, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if werr != nil {
		return 0, werr
	}
	return n, os.NewSyscallError("sendmsg", err)
}

// ReadLine returns the next line, without its end, and the descriptors that came with
// it. They are the caller's, also with an error.
func (c *Conn) ReadLine() (line []byte, files []*os.File, err error) {
	for from := 0; ; {
		if i := bytes.IndexByte(c.ahead[from:], '\n'); i >= 0 {
			line, c.ahead = c.ahead[:from+i], c.ahead[from+i+1:]
			return line, files, nil
		}
		from = len(c.ahead)
		if from >= c.most {
			return nil, files, errTooLong
		}
		b := make([]byte, min(32<<10, c.most+1-from))
		n, got, err := c.receive(b)
		files = append(files, got...)
		switch {
		case err != nil:
			return nil, files, err
		case len(files) > mostFiles:
			return nil, files, errors.New("too many descriptors")
		case n == 0 && from > 0:
			return nil, files, io.ErrUnexpectedEOF
		case n == 0:
			return nil, files, io.EOF
		}
		c.ahead = append(c.ahead, b[:n]...)
	}
}

func (c *Conn) receive(b []byte) (n int, files []*os.File, err error) {
	rc, err := c.f.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	oob := make([]byte, unix.CmsgSpace(4*mostFiles))
	oobn, flags := 0, 0
	rerr := rc.Read(func(fd uintptr) bool {
		n, oobn, flags, _, err = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case rerr != nil:
		return 0, nil, rerr
	case err != nil:
		return 0, nil, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return n, files, errors.New("too many descriptors")
	}
	return n, files, nil
}

// strict reads exactly one JSON value into v, whose fields are all that it may have.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there is more than one value")
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
