package onload

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// leaving is how a socket goes over to the kernel while it lives: because its
// program wants what only the kernel does. Blocked calls go on there.
type leaving struct {
	owner  *UDPConn   // set before anybody has the socket
	mu     sync.Mutex // leave, Close
	way    atomic.Pointer[wayOut]
	readBy atomic.Int64 // the deadlines, see nanos
	sendBy atomic.Int64
}

// wayOut leads the calls of a socket that leaves to its new carrier.
type wayOut struct {
	done chan struct{} // closed when to is set
	to   udpCarrier    // nil: it was lost, and the socket is closed
}

// gone returns the kernel's carrier where err came of leaving for it, else nil.
//
//go:noinline
func (l *leaving) gone(err error) udpCarrier {
	w := l.way.Load()
	if w == nil || err != net.ErrClosed {
		return nil
	}
	<-w.done
	return w.to
}

// leave makes the kernel the carrier, by to, which closes the stack's part and
// returns the kernel's. A second call returns what the first did.
func (l *leaving) leave(to func() (udpCarrier, error)) (udpCarrier, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.way.Load(); w != nil {
		if w.to == nil {
			return nil, net.ErrClosed
		}
		return w.to, nil
	}
	w := &wayOut{done: make(chan struct{})}
	l.way.Store(w)
	defer close(w.done)
	k, err := to()
	if err != nil {
		return nil, err
	}
	w.to = k
	if l.owner != nil {
		l.owner.carrier.Store(&w.to)
	}
	return k, nil
}

// stacked is what connectedUDP and boundUDP have besides their methods of
// udpCarrier, for rawUDP.
type stacked interface {
	control(f func(fd uintptr)) error
	kernel(why string) (udpCarrier, error)
}

// rawUDP is the RawConn of an accelerated socket: that of a kernel socket beside
// it. What the program sets there is followed. One that receives or sends there
// makes the kernel the carrier, since only the kernel has datagrams behind a
// descriptor.
type rawUDP struct{ c stacked }

const readsItself = "the program reads and writes the descriptor itself (RawConn)"

// Control implements syscall.RawConn.
func (r rawUDP) Control(f func(fd uintptr)) error { return r.c.control(f) }

// Read implements syscall.RawConn.
func (r rawUDP) Read(f func(fd uintptr) bool) error {
	k, err := r.raw()
	if err != nil {
		return err
	}
	return k.Read(f)
}

// Write implements syscall.RawConn.
func (r rawUDP) Write(f func(fd uintptr) bool) error {
	k, err := r.raw()
	if err != nil {
		return err
	}
	return k.Write(f)
}

func (r rawUDP) raw() (syscall.RawConn, error) {
	k, err := r.c.kernel(readsItself)
	if err != nil {
		return nil, err
	}
	return k.SyscallConn()
}

// fileOf is File of a socket that leaves for it.
func fileOf(c stacked) (*os.File, error) {
	k, err := c.kernel(descriptorTaken)
	if err != nil {
		return nil, err
	}
	return k.File()
}
