package stack

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// UDPConn is a UDP socket of a Stack, connected or not. All methods may be
// called at the same time from several goroutines. Errors are bare.
type UDPConn struct {
	s       *Stack
	local   netip.AddrPort
	remote  netip.AddrPort // zero: not connected
	forward *UDPConn
	rq      udp.Queue
	rqmu    sync.Mutex    // producers of other stacks, and Inject
	full    atomic.Uint64 // datagrams lost for want of room in rq
	scarce  atomic.Uint64 // and for want of frames

	// Under the stack lock.
	port                 *port
	keys                 []portKey
	hearing              Hearing // of what is bound
	flow                 flowKey
	dst                  *dst       // connected: of remote; else of the last destination
	named                bool       // dst is from an address that the caller named
	waiting              bool       // on Stack.udpWait
	sending, sendingLast ring.Frame // taken off sendq, not yet sent

	work   ring.Work
	sendq  ring.Mailbox // datagrams on their way, a chain of frames each
	queued atomic.Int64 // bytes of frames in sendq
	sndBuf atomic.Int64

	rmu    sync.Mutex
	wmu    sync.Mutex
	seg    int       // UDP_SEGMENT; under wmu
	ip     IPOptions // under wmu, and written under the stack lock too
	flood  flood
	r, w   waiter
	joined atomic.Bool // UDP_GRO
	closed atomic.Bool
	errno  atomic.Uint32 // pending ICMP error, reported once
	lost   atomic.Uint32 // connected: errno while there is no route, else 0
}

// LocalAddr is the address that the socket is bound to.
func (u *UDPConn) LocalAddr() netip.AddrPort { return u.local }

// RemoteAddr is the peer of a connected socket.
func (u *UDPConn) RemoteAddr() netip.AddrPort { return u.remote }

// Stack is the stack that carries the socket.
func (u *UDPConn) Stack() *Stack { return u.s }

// Link is the index of the interface that the packets of a connected socket leave
// by at present; for others, of the stack's first.
func (u *UDPConn) Link() int {
	u.s.begin()
	defer u.s.end()
	if u.dst == nil {
		return u.s.links()[0].index
	}
	return u.dst.link()
}

// ready implements socket.
func (u *UDPConn) ready(d direction) bool {
	if u.closed.Load() || u.s.life.closing.Load() || u.errno.Load() != 0 || u.dead() != 0 {
		return true
	}
	if d == dirRead {
		return u.rq.Ready()
	}
	return u.queued.Load() < u.sndBuf.Load() || u.lost.Load() != 0
}

// fail has the next call return errno, as an ICMP error does on a connected
// socket.
func (u *UDPConn) fail(errno syscall.Errno) {
	u.errno.Store(uint32(errno))
	u.s.notify(&u.r)
	u.s.notify(&u.w)
}

// dead is the errno of a connected socket whose device failed, else 0. A socket
// that is only bound may have other ways than that device.
func (u *UDPConn) dead() syscall.Errno {
	if !u.remote.IsValid() {
		return 0
	}
	return syscall.Errno(u.s.life.down.Load())
}

// check returns the error that ends a call before it begins.
func (u *UDPConn) check(w *waiter) error {
	if u.Closed() {
		return errClosed
	}
	if w.over() {
		return os.ErrDeadlineExceeded
	}
	if e := u.dead(); e != 0 {
		return e
	}
	if u.errno.Load() != 0 {
		if e := u.errno.Swap(0); e != 0 {
			return syscall.Errno(e)
		}
	}
	return nil
}

// Closed reports whether the socket, or its stack, is closed.
func (u *UDPConn) Closed() bool { return u.closed.Load() || u.s.life.closing.Load() }

// Depart leaves what comes from now on to the kernel's socket, or that of another
// process that shares the port. Close follows, when all sockets that forward to the same
// one have departed.
func (u *UDPConn) Depart() {
	s := u.s
	s.begin()
	defer s.end()
	if !s.life.closing.Load() {
		u.depart()
	}
}

// depart is Depart for the holder of the lock. A second call does nothing.
func (u *UDPConn) depart() {
	s := u.s
	s.demux.lastUDP = nil
	if !u.remote.IsValid() {
		s.ports.depart(u.port, s.now)
	}
	s.demux.udps.remove(u.keys, u)
	s.groups.remove(u)
	s.groups.left(u)
}

// Close closes the socket. Blocked calls return net.ErrClosed.
func (u *UDPConn) Close() error {
	if !u.closed.CompareAndSwap(false, true) {
		return errClosed
	}
	u.s.wake(&u.r)
	u.s.wake(&u.w)
	u.rmu.Lock()
	u.wmu.Lock()
	s := u.s
	s.begin()
	var p *port
	if !s.life.closing.Load() {
		s.sendQueued(u)
		u.depart()
		s.demux.removeUDP(u)
		s.dests.unref(u.dst)
		u.dst = nil
		p = u.port
		s.dropQueued(u)
	} else if s.shared() {
		s.takeQueued(u)
		s.dropQueued(u)
	}
	s.end()
	s.ports.release(p)
	u.rqmu.Lock()
	u.rq.Drain()
	u.rqmu.Unlock()
	u.r.stop()
	u.w.stop()
	u.wmu.Unlock()
	u.rmu.Unlock()
	return nil
}

func (u *UDPConn) deadline(t time.Time, ws ...*waiter) error {
	if u.closed.Load() {
		return errClosed
	}
	for _, w := range ws {
		u.s.setDeadline(w, t)
	}
	return nil
}

// SetDeadline sets both deadlines.
func (u *UDPConn) SetDeadline(t time.Time) error { return u.deadline(t, &u.r, &u.w) }

// SetReadDeadline sets when ReadFrom gives up; the zero Time is never.
func (u *UDPConn) SetReadDeadline(t time.Time) error { return u.deadline(t, &u.r) }

// SetWriteDeadline sets when WriteTo gives up; the zero Time is never.
func (u *UDPConn) SetWriteDeadline(t time.Time) error { return u.deadline(t, &u.w) }

// SetReadBuffer bounds the datagrams that wait for ReadFrom, in bytes of memory
// held.
func (u *UDPConn) SetReadBuffer(n int) error {
	if u.closed.Load() {
		return errClosed
	}
	u.rq.SetLimit(n)
	return nil
}

// SetWriteBuffer bounds the datagrams that wait for the device, in bytes of memory
// held. While nothing waits there is room for one datagram.
func (u *UDPConn) SetWriteBuffer(n int) error {
	if u.closed.Load() {
		return errClosed
	}
	u.sndBuf.Store(int64(max(n, 1)))
	u.s.wake(&u.w) // there may be room now, which sentDatagram does not see
	return nil
}
