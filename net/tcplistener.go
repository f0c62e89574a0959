package onload

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/engine"
)

// TCPListener listens for TCP connections: the kernel's, and those that come by
// accelerated interfaces. It has the methods of net.TCPListener, with their errors.
type TCPListener struct {
	k  *net.TCPListener // holds the port and serves local clients; nil: there is no kernel
	on *engine.Listener // nil: the kernel serves all, why says the reason

	e       *Engine // with on
	network string
	wide    bool // addresses as on an IPv6 socket
	why     string
	laddr   net.Addr // with on
	unshare func()   // with on and k

	pumped sync.WaitGroup
	tokens chan struct{} // one for each connection of the kernel's that waits
	done   chan struct{}
	ended  sync.Once // done is closed, and with it k

	share sharedListener
}

var (
	_ net.Listener = (*TCPListener)(nil)
	_ syscall.Conn = (*TCPListener)(nil)
)

// kernelBacklog is how many connections are taken from the kernel ahead of Accept.
// All others wait in the kernel's backlog.
const kernelBacklog = 64

// open has on accept too. unshare is for when the listener closes.
func (l *TCPListener) open(on *engine.Listener, unshare func()) {
	l.on, l.unshare = on, unshare
	l.tokens = make(chan struct{}, kernelBacklog)
	l.done = make(chan struct{})
	l.share.asked, l.share.taking = make(chan struct{}, 1), make(chan struct{}, 1)
	if l.k != nil {
		l.laddr = l.k.Addr()
		return
	}
	a := on.Addr()
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	l.laddr = tcpAddr(a, false)
}

func (l *TCPListener) path() Path {
	if l.on != nil && l.share.given.Load() {
		return Path{Reason: descriptorTaken}
	}
	if l.on != nil {
		return Path(l.on.Path())
	}
	return Path{Reason: l.why}
}

func (l *TCPListener) ok() bool { return l != nil && (l.k != nil || l.on != nil) }

func (l *TCPListener) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: l.network, Addr: l.laddr, Err: cause(op, err)}
}

// kernelAccept is what the kernel's Accept returned.
type kernelAccept struct {
	c     *net.TCPConn
	err   error
	taken chan struct{} // closed when err has been returned to somebody
}

// Close closes a connection that nobody accepted.
func (a kernelAccept) Close() error {
	if a.c != nil {
		return a.c.Close()
	}
	return nil
}

// pump hands the kernel's connections to Accept, until the listener closes.
func (l *TCPListener) pump() {
	for {
		select {
		case l.tokens <- struct{}{}:
		case <-l.done:
			return
		}
		a := kernelAccept{err: os.ErrDeadlineExceeded}
		for errors.Is(a.err, os.ErrDeadlineExceeded) { // see sharedListener
			if !l.share.wants(l) {
				return
			}
			l.share.taking <- struct{}{}
			a.c, a.err = l.k.AcceptTCP()
			<-l.share.taking
		}
		if errors.Is(a.err, net.ErrClosed) {
			return
		}
		if a.err != nil {
			a.taken = make(chan struct{})
		}
		if !l.on.Inject(a) {
			_ = a.Close()
			return
		}
		if a.err != nil {
			// One error at a time: the next would most likely be the same.
			select {
			case <-a.taken:
			case <-l.done:
				return
			}
		}
	}
}

// Accept waits for the next connection, a *TCPConn.
func (l *TCPListener) Accept() (Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP waits for the next connection.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	if l.on == nil {
		k, err := l.k.AcceptTCP()
		if err != nil {
			return nil, err
		}
		return kernelTCPConn(k, l.network, l.why), nil
	}
	l.share.enter()
	s, injected, err := l.on.Accept()
	l.share.leave(l.k)
	switch {
	case err != nil:
		return nil, l.opError("accept", err)
	case s != nil:
		return acceleratedTCP(s, l.network, l.wide), nil
	}
	a := injected.(kernelAccept)
	<-l.tokens
	if a.err != nil {
		close(a.taken)
		return nil, a.err
	}
	return kernelTCPConn(a.c, l.network, "the client came by the kernel"), nil
}

// Close stops listening. Accepted connections are not closed. If others may have the
// kernel's socket, because File or SyscallConn was called or the listener was made from a
// file, they accept clients from now on, and Accept returns those that came before Close
// first: it fails within a second.
func (l *TCPListener) Close() error {
	if !l.ok() {
		return syscall.EINVAL
	}
	if l.on == nil {
		return l.k.Close()
	}
	if l.k != nil && l.share.lent.Load() {
		return l.opError("close", l.closeShared())
	}
	return l.opError("close", l.close())
}

// close is Close without net's words for the error, which is the stack's.
func (l *TCPListener) close() error {
	err := l.on.Close()
	l.end()
	if l.k != nil {
		l.unshare()
		l.e.in.Untrack(l)
		l.on.HoldPort()
	}
	return err
}

// end takes no more of the kernel's connections.
func (l *TCPListener) end() {
	l.ended.Do(func() {
		close(l.done)
		if l.k != nil {
			_ = l.k.Close()
		}
	})
	l.pumped.Wait()
}

// Addr returns the address listened on, a *TCPAddr, which all callers share.
func (l *TCPListener) Addr() Addr {
	if !l.ok() {
		return nil
	}
	if l.on == nil {
		return l.k.Addr()
	}
	return l.laddr
}

// SetDeadline sets when Accept fails with an error that is
// os.ErrDeadlineExceeded; the zero time is never.
func (l *TCPListener) SetDeadline(t time.Time) error {
	if !l.ok() {
		return syscall.EINVAL
	}
	if l.on == nil {
		return l.k.SetDeadline(t)
	}
	return l.on.SetDeadline(t)
}

// File returns a copy of the kernel's listening socket, which a child or a successor can
// accept clients with. From then on the kernel has all new clients, and gives each to
// whoever accepts first. This listener goes on: its Accept takes clients from the kernel
// too, one for each call, and those whose handshakes had begun.
func (l *TCPListener) File() (*os.File, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	if l.k == nil {
		return nil, l.opError("file", errNoDescriptor)
	}
	f, err := l.k.File()
	if err == nil && l.on != nil {
		l.share.give(l)
	}
	return f, err
}

// SyscallConn returns the raw connection of the kernel's listening socket, which
// serves clients that are not accelerated, and all once this listener is closed.
func (l *TCPListener) SyscallConn() (syscall.RawConn, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	if l.k == nil {
		return nil, l.opError("raw", errNoDescriptor)
	}
	l.share.lent.Store(true)
	return l.k.SyscallConn()
}
