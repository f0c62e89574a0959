package onload

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Passed is a socket on its way from one process to its successor.
type Passed struct {
	// Name is for the successor to know it by: at most 64 KiB.
	Name string
	// Socket is a Listener, Conn or PacketConn of this package or of net, with a
	// method File. A TLS connection has none: its keys would stay behind.
	Socket any
	// Data is what the program says of the socket, such as bytes that it has read and
	// not used: at most 1 MiB.
	Data []byte
}

// Handoff passes sockets to the process at the other end of to, a Unix socket, which
// calls Takeover. It returns when the successor has all of them, and closes ours. Both may
// be called again on the same Unix socket, for more. The caller sets deadlines of to.
//
// The kernel carries the sockets meanwhile: their File is called. A listener's clients
// that came before are returned by its Accept, as its Close says. Nobody may read from or
// write to connections while they are passed. After an error they are the caller's, by
// the kernel; net.ErrClosed is among the errors where one was closed already.
func Handoff(to *UnixConn, sockets []Passed) error {
	err := pass(to, sockets)
	if err != nil {
		return &net.OpError{Op: "handoff", Net: "unix", Addr: to.RemoteAddr(), Err: err}
	}
	var errs []error
	for i := range sockets {
		if u, ok := sockets[i].Socket.(interface{ SetUnlinkOnClose(bool) }); ok {
			u.SetUnlinkOnClose(false) // the successor's clients find it by its path
		}
		errs = append(errs, sockets[i].Socket.(io.Closer).Close())
	}
	return errors.Join(errs...)
}

func pass(to *net.UnixConn, sockets []Passed) error {
	for i := range sockets {
		r, f, err := recordOf(&sockets[i])
		if err != nil {
			err = fmt.Errorf("socket %d (%q): %w", i, sockets[i].Name, err)
			if i > 0 { // the successor has some of them, and waits for more
				_, _ = ask(to, passedRecord{kind: passedRefused, name: err.Error()})
			}
			return err
		}
		if err := r.sendFile(to, f); err != nil {
			return fmt.Errorf("socket %d (%q): %w", i, sockets[i].Name, err)
		}
	}
	answer, err := ask(to, passedRecord{kind: passedEnd})
	if err != nil {
		return err
	}
	switch answer.kind {
	case passedAll:
		return nil
	case passedRefused:
		return fmt.Errorf("the successor refuses: %s", answer.name)
	}
	return errPassed
}

// ask sends a record and returns the answer.
func ask(to *net.UnixConn, r passedRecord) (answer passedRecord, err error) {
	if err := r.send(to, -1); err != nil {
		return answer, err
	}
	if _, err := answer.receive(to); err != nil {
		return answer, fmt.Errorf("the successor's answer: %w", err)
	}
	return answer, nil
}

// recordOf returns the record of p, and its descriptor.
func recordOf(p *Passed) (*passedRecord, *os.File, error) {
	r := &passedRecord{name: p.Name, data: p.Data}
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	switch s := p.Socket.(type) {
	case net.Listener:
		r.kind = passedListener
	case *UDPConn: // both of the kinds below
		r.kind = passedPacketConn
		if s.RemoteAddr() != nil {
			r.kind = passedConn
		}
	case net.Conn:
		r.kind = passedConn
	case net.PacketConn:
		r.kind = passedPacketConn
	}
	s, ok := p.Socket.(interface{ File() (*os.File, error) })
	if !ok || r.kind == 0 {
		return nil, nil, fmt.Errorf("a %T cannot be passed: %w", p.Socket, errors.ErrUnsupported)
	}
	f, err := s.File()
	return r, f, err
}

// sendFile sends r with f, and closes f.
func (r *passedRecord) sendFile(to *net.UnixConn, f *os.File) error {
	defer f.Close()
	raw, err := f.SyscallConn() // Fd would have the socket block
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = r.send(to, int(fd)) })
	return errors.Join(err, sent)
}

// Takeover receives what a predecessor passes by Handoff at the other end of from. The
// sockets are made by Engine.FileListener, FileConn and Engine.FilePacketConn, and say by
// PathOf whether they are accelerated. The error is io.EOF when the predecessor has closed
// its end, between two calls of Handoff. After other errors it has all sockets still. Who
// can connect to from decides what this process serves: check who it is (SO_PEERCRED).
func Takeover(from *UnixConn) ([]Passed, error) {
	e, err := Default()
	if err != nil {
		return nil, err
	}
	return e.Takeover(from)
}

// Takeover acts like the package's function.
func (e *Engine) Takeover(from *UnixConn) ([]Passed, error) {
	all, err := e.receivePassed(from)
	if err == io.EOF {
		return nil, err
	}
	answer := passedRecord{kind: passedAll}
	if err != nil {
		answer = passedRecord{kind: passedRefused, name: err.Error()}
	}
	if serr := answer.send(from, -1); err == nil {
		err = serr
	}
	if err == nil {
		return all, nil
	}
	for i := range all {
		_ = all[i].Socket.(io.Closer).Close()
	}
	return nil, &net.OpError{Op: "takeover", Net: "unix", Addr: from.RemoteAddr(), Err: err}
}

// receivePassed reads what one call of Handoff sends, to its end also where a socket of it
// cannot be had: the next call begins behind it.
func (e *Engine) receivePassed(from *net.UnixConn) (all []Passed, refused error) {
	for n := 0; ; n++ {
		var r passedRecord
		f, err := r.receive(from)
		switch {
		case err == io.EOF && n > 0:
			return all, io.ErrUnexpectedEOF
		case err != nil:
			return all, err
		case r.kind == passedEnd:
			return all, refused
		case r.kind == passedRefused:
			return all, fmt.Errorf("the predecessor gives up: %s", r.name)
		case r.kind == passedAll:
			return all, errPassed
		}
		if refused == nil {
			p := Passed{Name: r.name, Data: r.data}
			if p.Socket, err = e.socketOf(r.kind, f); err == nil {
				all = append(all, p)
			} else {
				refused = fmt.Errorf("socket %d (%q): %w", n, r.name, err)
			}
		}
		_ = f.Close()
	}
}

func (e *Engine) socketOf(kind byte, f *os.File) (any, error) {
	switch kind {
	case passedListener:
		return e.FileListener(f)
	case passedPacketConn:
		return e.FilePacketConn(f)
	}
	return FileConn(f)
}
