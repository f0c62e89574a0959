package ask

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect"
)

// dialWait is how long a process may leave its peers waiting.
const dialWait = 10 * time.Second

// dial connects to the process, however long the socket's path is, and whatever stands
// there now.
func (p *Process) dial() (*inspect.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// A stopped process's queue is full after some attempts: connect then waits.
	t := unix.NsecToTimeval(int64(dialWait))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(p.socket)})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return inspect.NewConn(os.NewFile(uintptr(fd), p.Path)), nil
}

// peerPID is the process that listens.
func peerPID(c *inspect.Conn) (pid int, err error) {
	rc, err := c.File().SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := rc.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}); cerr != nil {
		return 0, cerr
	}
	return pid, err
}

// Asking is a request that is being answered.
type Asking struct {
	p *Process
	c *inspect.Conn
}

// Ask begins a request of a kind. args is a value for JSON, or nil.
func (p *Process) Ask(kind string, args any, files ...*os.File) (*Asking, error) {
	c, err := p.dial()
	if err != nil {
		return nil, p.named(err)
	}
	request := struct {
		Version int    `json:"version"`
		Kind    string `json:"kind"`
		Args    any    `json:"args,omitempty"`
	}{inspect.Version, kind, args}
	if err := c.WriteLine(&request, files...); err != nil {
		_ = c.Close()
		return nil, p.named(err)
	}
	return &Asking{p, c}, nil
}

func (p *Process) named(err error) error { return fmt.Errorf("process %d: %w", p.PID, err) }

// Close ends the request.
func (a *Asking) Close() error { return a.c.Close() }

// Next returns the next value of the answer, and descriptors that came with it; io.EOF
// behind the last one. Until then the error of a process that has ended is
// io.ErrUnexpectedEOF.
func (a *Asking) Next() (json.RawMessage, []*os.File, error) {
	b, files, err := a.c.ReadLine()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	var line inspect.Line
	if err == nil {
		err = json.Unmarshal(b, &line)
	}
	switch {
	case err != nil:
	case line.Error != "":
		err = errors.New(line.Error)
	case line.End:
		return nil, files, io.EOF
	default:
		return line.Data, files, nil
	}
	for _, f := range files {
		_ = f.Close()
	}
	return nil, nil, a.p.named(err)
}

// answerWait bounds the time between two values of an answer to Each.
const answerWait = time.Minute

// Each asks and calls f with each value of the answer.
func Each[T any](p *Process, kind string, args any, f func(*T) error) error {
	a, err := p.Ask(kind, args)
	if err != nil {
		return err
	}
	defer a.Close()
	for {
		if err := a.c.File().SetReadDeadline(time.Now().Add(answerWait)); err != nil {
			return err
		}
		// The line is read once: Next would read its data first, and then again.
		b, files, err := a.c.ReadLine()
		for _, f := range files {
			_ = f.Close()
		}
		var line struct {
			Data  *T     `json:"data"`
			End   bool   `json:"end"`
			Error string `json:"error"`
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = json.Unmarshal(b, &line)
		}
		switch {
		case err != nil:
			return p.named(err)
		case line.Error != "":
			return p.named(errors.New(line.Error))
		case line.End:
			return nil
		}
		v := line.Data
		if v == nil {
			v = new(T) // null
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

// One asks for an answer of one value.
func One[T any](p *Process, kind string, args any) (*T, error) {
	var got *T
	err := Each(p, kind, args, func(v *T) error { got = v; return nil })
	if err == nil && got == nil {
		err = p.named(errors.New("it answers with nothing"))
	}
	return got, err
}
