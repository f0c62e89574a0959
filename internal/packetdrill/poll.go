package packetdrill

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// always are the bits that poll reports unasked.
const always = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL

// until is the deadline of a timeout in ms.
func (m *machine) until(timeout int64) int64 {
	if timeout < 0 {
		return math.MaxInt64
	}
	return m.now + timeout*ms
}

func (m *machine) sysPoll(c *Call) (*op, error) {
	if len(c.Args) != 3 || c.Args[0].Kind != Array {
		return nil, unsupportedf("bad pointers")
	}
	timeout, err := m.num(c.Args[2])
	if err != nil {
		return nil, err
	}
	type entry struct {
		fd                 int64
		events, want, seen uint32
		checked            bool
	}
	var es []*entry
	for _, x := range c.Args[0].Args {
		e := &entry{}
		for _, f := range x.Fields {
			n, err := m.num(f.Value)
			if err != nil {
				return nil, err
			}
			switch f.Name {
			case "fd":
				e.fd = n
			case "events":
				e.events = uint32(n)
			case "revents":
				e.want, e.checked = uint32(n), true
			}
		}
		es = append(es, e)
	}
	o := &op{at: m.until(timeout)}
	o.try = func() (int64, syscall.Errno, bool) {
		n := int64(0)
		for _, e := range es {
			e.seen = unix.POLLNVAL
			if f := m.fds[int(e.fd)]; f != nil {
				e.seen = f.ready() & (e.events | always)
			}
			if e.seen != 0 {
				n++
			}
		}
		return n, 0, n > 0 || m.now >= o.at
	}
	o.check = func() error {
		for _, e := range es {
			if e.checked && e.seen != e.want {
				return failf("poll() tells %#x of descriptor %d, not %#x", e.seen, e.fd, e.want)
			}
		}
		return nil
	}
	return o, nil
}

// epoll is an epoll descriptor.
type epoll struct{ on []*interest }

// interest is a descriptor on an epoll.
type interest struct {
	fd      int
	events  uint32
	in, out int  // marks when it was last told
	fresh   bool // nothing was told since it was added or changed
	off     bool // EPOLLONESHOT
}

func (e *epoll) ready() uint32        { return 0 }
func (e *epoll) marks() (in, out int) { return 0, 0 }
func (e *epoll) close() *op           { return instant(0, 0) }

func (m *machine) sysEpollCreate(*Call) (*op, error) {
	o := instant(0, 0)
	o.file = func() file { return &epoll{} }
	return o, nil
}

func (m *machine) epoll(args []Expr) (*epoll, error) {
	f, err := m.file(args)
	if err != nil {
		return nil, err
	}
	e, ok := f.(*epoll)
	if !ok {
		return nil, failf("not an epoll descriptor")
	}
	return e, nil
}

// epollEvent evaluates {events=..., fd=...}.
func (m *machine) epollEvent(x Expr) (events uint32, fd int64, err error) {
	fd = -1
	for _, f := range x.Fields {
		n, err := m.num(f.Value)
		if err != nil {
			return 0, 0, err
		}
		switch f.Name {
		case "events":
			events = uint32(n)
		case "fd":
			fd = n
		}
	}
	return events, fd, nil
}

func (m *machine) sysEpollCtl(c *Call) (*op, error) {
	e, err := m.epoll(c.Args)
	if err != nil || len(c.Args) != 4 {
		return nil, err
	}
	cmd, err := m.num(c.Args[1])
	if err != nil {
		return nil, err
	}
	fd, err := m.num(c.Args[2])
	if err != nil {
		return nil, err
	}
	events, _, err := m.epollEvent(c.Args[3])
	if err != nil {
		return nil, err
	}
	var at *interest
	for i, x := range e.on {
		if x.fd == int(fd) {
			if at = x; cmd == unix.EPOLL_CTL_DEL {
				e.on = append(e.on[:i], e.on[i+1:]...)
				return instant(0, 0), nil
			}
		}
	}
	switch {
	case m.fds[int(fd)] == nil:
		return instant(-1, syscall.EBADF), nil
	case cmd == unix.EPOLL_CTL_ADD && at != nil:
		return instant(-1, syscall.EEXIST), nil
	case cmd != unix.EPOLL_CTL_ADD && at == nil:
		return instant(-1, syscall.ENOENT), nil
	case at == nil:
		at = &interest{fd: int(fd)}
		e.on = append(e.on, at)
	}
	at.events, at.fresh, at.off = events, true, false
	return instant(0, 0), nil
}

// poll returns the events of x that are ready.
func (x *interest) poll(m *machine) uint32 {
	f := m.fds[x.fd]
	if f == nil || x.off {
		return 0
	}
	ev := f.ready() & (x.events | unix.EPOLLERR | unix.EPOLLHUP)
	in, out := f.marks()
	if x.events&(1<<31) != 0 { // EPOLLET
		if !x.fresh && in == x.in && out == x.out {
			return 0
		}
	}
	if ev != 0 {
		x.in, x.out, x.fresh = in, out, false
		x.off = x.events&unix.EPOLLONESHOT != 0
	}
	return ev
}

func (m *machine) sysEpollWait(c *Call) (*op, error) {
	e, err := m.epoll(c.Args)
	if err != nil || len(c.Args) != 4 {
		return nil, err
	}
	timeout, err := m.num(c.Args[3])
	if err != nil {
		return nil, err
	}
	events, _, err := m.epollEvent(c.Args[1])
	if err != nil {
		return nil, err
	}
	var seen uint32
	o := &op{at: m.until(timeout)}
	o.try = func() (n int64, _ syscall.Errno, _ bool) {
		for _, x := range e.on {
			if ev := x.poll(m); ev != 0 {
				seen |= ev
				n++
			}
		}
		return n, 0, n > 0 || m.now >= o.at
	}
	o.check = func() error {
		if seen != events {
			return failf("epoll_wait() tells %#x, not %#x", seen, events)
		}
		return nil
	}
	return o, nil
}

// Bits of poll that x/sys does not name.
const pollRdNorm, pollWrNorm = 0x40, 0x100
