package stack

import (
	"syscall"

	"github.com/onload-go/onload/internal/control"
)

// onChange hears of the kernel's changes from the mirror's goroutine.
func (s *Stack) onChange(c control.Change) {
	if s.life.closing.Load() {
		return
	}
	s.begin()
	defer s.end()
	if s.life.closing.Load() {
		return
	}
	s.locals.changed()
	if c.Kind == control.LinkChanged || c.Kind == control.LinkGone {
		s.learnLinks()
	}
	s.rx.repeat.Forget()
	if c.Kind == control.RouteChanged && s.dests.portsChanged() {
		s.rekey()
	}
	for _, d := range s.dests.all {
		s.applyChange(d, c)
	}
	if c.Kind == control.RouteChanged {
		// The route may prefer another source now.
		for _, l := range s.demux.udps {
			for _, x := range l {
				s.dests.unref(x.socket.dst)
				x.socket.dst = nil
			}
		}
	}
	s.tell()
	if k := s.linkOf(c.Link); c.Kind == control.LinkGone && k != nil {
		s.linkGone(k)
	}
}

// rekey gives each flow a destination of its own if routes have begun to depend on
// ports, and takes it back if they no longer do.
func (s *Stack) rekey() {
	for c := range s.demux.flows.all() {
		c.dst = s.dests.rekey(c.dst, c.tc.Local().Port(), c.tc.Remote().Port())
	}
	for _, u := range s.demux.udpFlows {
		u.dst = s.dests.rekey(u.dst, u.local.Port(), u.remote.Port())
	}
}

// applyChange brings one destination up to date. News for its sockets wait for
// tell.
func (s *Stack) applyChange(d *dst, c control.Change) {
	switch c.Kind {
	case control.NeighborUp:
		if c.Link == d.route.Link && c.Addr == d.route.NextHop {
			s.resolve(d)
		}
	case control.NeighborFailed:
		switch {
		case c.Link != d.route.Link || c.Addr != d.route.NextHop:
		case d.detour: // the kernel asks again
		case d.ready:
			// Perhaps the kernel has only forgotten the neighbour, since it saw no
			// traffic. Its address is used until another is known. The next sender
			// asks the kernel; idle connections never do.
			d.stale = true
		default:
			s.unreachable(d, syscall.EHOSTUNREACH)
		}
	case control.RouteChanged: // behind changes of links and addresses too
		gone := d.gone
		if !s.dests.resolveRoute(d, nil, s.now) {
			s.unreachable(d, syscall.ENETUNREACH)
			return
		}
		s.sendParked(d) // they go where the route leads now
		s.dests.news = s.dests.news || gone
	}
}

func (s *Stack) learnLinks() {
	for _, k := range s.links() {
		k.learnVLANs(s.cfg.Net)
		k.learnMACs(s.cfg.Net)
	}
}

// unreachable notes that d cannot be reached at present, and drops the packets that
// wait for it.
func (s *Stack) unreachable(d *dst, errno syscall.Errno) {
	d.lost, s.dests.news = errno, true
	s.dests.drop(d)
}

// tell has the sockets learn the news of their destinations. It is one pass over
// them, since a link that goes down takes all destinations with it. An unreachable
// destination is fatal for connections that are being made, and a hint for others.
// A UDP socket hears of it when it writes (WriteFrom), as on Linux.
func (s *Stack) tell() {
	if !s.dests.news {
		return
	}
	s.dests.news = false
	for c := range s.demux.flows.all() {
		d := c.dst
		if d.lost != 0 {
			c.tc.Unreachable(d.lost, s.now)
			s.touch(c)
		} else if d.cut {
			c.tc.SetTSO(d.on.tso)
			c.tc.SetPathMTU(s.dests.mtuOf(d, s.now), s.now)
			s.touch(c)
		}
	}
	for _, u := range s.demux.udpFlows {
		var lost syscall.Errno
		if u.dst.gone {
			lost = u.dst.why
		}
		if u.lost.Swap(uint32(lost)) == 0 && lost != 0 {
			s.notify(&u.w)
		}
	}
	for _, d := range s.dests.all {
		d.lost, d.cut = 0, false
	}
}
