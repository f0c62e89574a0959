package stack

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// ReadFrom reads one datagram into p. n bytes were copied of the full that it
// has; dst is the address that it was sent to.
func (u *UDPConn) ReadFrom(p []byte) (n, full int, src, dst netip.AddrPort, err error) {
	var info udp.Info
	n, full, err = u.ReadInfo(p, &info)
	return n, full, info.Src, info.Dst, err
}

// ReadInfo is ReadFrom that also fills info.
func (u *UDPConn) ReadInfo(p []byte, info *udp.Info) (n, full int, err error) {
	u.rmu.Lock()
	for {
		var ok bool
		n, full, ok, err = u.readNow(p, info)
		if !ok && err == nil {
			u.paused()
			if err = u.s.wait(u, dirRead, &u.r); err == nil {
				continue
			}
		}
		u.rmu.Unlock()
		return n, full, err
	}
}

// TryRead is ReadInfo that does not wait. ok is false if nothing is there, or
// another goroutine reads, to which it belongs. If poll is true it looks at the
// queues first.
func (u *UDPConn) TryRead(p []byte, info *udp.Info, poll bool) (n, full int, ok bool, err error) {
	if !u.rmu.TryLock() {
		return 0, 0, false, nil
	}
	defer u.rmu.Unlock()
	if n, full, ok, err = u.readNow(p, info); ok || err != nil || !poll {
		return n, full, ok, err
	}
	u.s.pollOnce()
	return u.readNow(p, info)
}

// readNow is ReadInfo for a datagram that is there; ok reports whether one is.
// rmu is held.
func (u *UDPConn) readNow(p []byte, info *udp.Info) (n, full int, ok bool, err error) {
	if err = u.check(&u.r); err != nil {
		return
	}
	n, full, ok = u.rq.Read(p, info, u.joined.Load())
	if ok && u.s.life.closing.Load() {
		// A stack that was closed meanwhile has taken its frames away.
		*info = udp.Info{}
		return 0, 0, false, errClosed
	}
	return
}

// SetJoined sets whether datagrams that came as one are read as one
// (udp.Queue.Read, UDP_GRO).
func (u *UDPConn) SetJoined(on bool) { u.joined.Store(on) }

// push queues a received datagram. It takes the frames of ds, or returns false.
func (u *UDPConn) push(ds []ring.Desc, info *udp.Info) bool {
	f := u.forward
	if f.s != u.s {
		return u.pass(f, ds, info)
	}
	ok := f.queue(ds, info)
	if ok {
		u.s.notify(&f.r)
	}
	return ok
}

// pass is push for the socket f of another stack. Frames of another arena are copied.
func (u *UDPConn) pass(f *UDPConn, ds []ring.Desc, info *udp.Info) bool {
	if f.s.arena == u.s.arena {
		ok := f.queue(ds, info)
		if ok {
			f.s.wake(&f.r)
		}
		return ok
	}
	ok := f.Inject(u.s.copyOut(ds), info)
	if ok {
		u.s.cache.FreeDescs(ds)
	}
	return ok
}

// minUDPBuf is what a socket may hold while memory is scarce: the kernel's
// udp_rmem_min.
const minUDPBuf = 4096

// queue is rq.Push for the producers of all stacks. Sockets that nobody reads must
// not take the frames that the others receive into. So data from peers leaves
// Reserve of them, as with TCP.
func (u *UDPConn) queue(ds []ring.Desc, info *udp.Info) bool {
	if free, r := u.s.arena.FreeFrames(), u.s.host.Reserve; free < r/8 || free < r && u.rq.Held() >= minUDPBuf {
		u.scarce.Add(1)
		u.s.counters.udpScarce.Add(1)
		return false
	}
	u.rqmu.Lock()
	ok := !u.closed.Load() && u.rq.Push(ds, info)
	u.rqmu.Unlock()
	if !ok {
		u.full.Add(1)
		u.s.counters.udpFull.Add(1)
	}
	return ok
}

// Drops returns how many received datagrams the socket has lost.
func (u *UDPConn) Drops() Drops {
	f := u.forward
	return Drops{Buffer: f.full.Load(), Memory: f.scarce.Load()}
}

// Inject has ReadFrom return a datagram that came another way, by the
// kernel's socket on the same port. false: it was dropped.
func (u *UDPConn) Inject(p []byte, info *udp.Info) bool {
	s := u.s
	if info.At == 0 {
		info.At = nanotime()
	}
	ds, ok := s.copyIn(p)
	if !ok {
		u.scarce.Add(1)
		s.counters.udpScarce.Add(1)
		return false
	}
	if !u.queue(ds, info) {
		for i := range ds {
			s.arena.Free(ds[i].Frame)
		}
		return false
	}
	u.s.wake(&u.r)
	return true
}
