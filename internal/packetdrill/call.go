package packetdrill

import (
	"math"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// op is a system call that runs: try is called until it is done.
type op struct {
	try func() (n int64, errno syscall.Errno, done bool)
	at  int64 // when try is to be called at the latest; 0: never
	// file is what the descriptor that is returned stands for.
	file func() file
	// check compares the results that the call wrote to its arguments.
	check func() error
}

func (o *op) wakeup() int64 {
	if o.at == 0 {
		return math.MaxInt64
	}
	return o.at
}

// instant is a call that does not wait.
func instant(n int64, errno syscall.Errno) *op {
	return &op{try: func() (int64, syscall.Errno, bool) { return n, errno, true }}
}

// file is what a descriptor stands for.
type file interface {
	// ready is a set of POLL* bits.
	ready() uint32
	// marks count what happened, for edge-triggered epoll.
	marks() (in, out int)
	close() *op
}

// calls are the system calls, by name.
var calls = map[string]func(m *machine, c *Call) (*op, error){
	"socket":        (*machine).sysSocket,
	"bind":          onSocket((*socket).bind),
	"listen":        onSocket((*socket).listen),
	"accept":        onSocket((*socket).accept),
	"connect":       onSocket((*socket).connect),
	"read":          onSocket((*socket).read),
	"recv":          onSocket((*socket).recv),
	"recvfrom":      onSocket((*socket).recv),
	"readv":         onSocket((*socket).readv),
	"recvmsg":       onSocket((*socket).recvmsg),
	"write":         onSocket((*socket).write),
	"send":          onSocket((*socket).send),
	"sendto":        onSocket((*socket).send),
	"writev":        onSocket((*socket).writev),
	"sendmsg":       onSocket((*socket).sendmsg),
	"shutdown":      onSocket((*socket).shutdown),
	"setsockopt":    onSocket((*socket).setsockopt),
	"getsockopt":    onSocket((*socket).getsockopt),
	"fcntl":         onSocket((*socket).fcntl),
	"ioctl":         onSocket((*socket).ioctl),
	"close":         (*machine).sysClose,
	"poll":          (*machine).sysPoll,
	"epoll_create":  (*machine).sysEpollCreate,
	"epoll_create1": (*machine).sysEpollCreate,
	"epoll_ctl":     (*machine).sysEpollCtl,
	"epoll_wait":    (*machine).sysEpollWait,
}

// onSocket finds the socket that a call's first argument names.
func onSocket(f func(s *socket, a []Expr) (*op, error)) func(m *machine, c *Call) (*op, error) {
	return func(m *machine, c *Call) (*op, error) {
		s, errno, err := m.socket(c.Args)
		if err != nil || errno != 0 {
			return instant(-1, errno), err
		}
		return f(s, c.Args[1:])
	}
}

func (m *machine) file(args []Expr) (file, error) {
	if len(args) == 0 {
		return nil, failf("a descriptor expected")
	}
	fd, err := m.num(args[0])
	return m.fds[int(fd)], err
}

func (m *machine) socket(args []Expr) (s *socket, errno syscall.Errno, err error) {
	f, err := m.file(args)
	if err != nil || f == nil {
		return nil, syscall.EBADF, err
	}
	s, ok := f.(*socket)
	if !ok {
		return nil, 0, unsupportedf("a call on what is no socket")
	}
	return s, 0, nil
}

// num evaluates an integer.
func (m *machine) num(e Expr) (int64, error) {
	switch e.Kind {
	case Number:
		return e.Num, nil
	case Name:
		if n, ok := symbols[e.Text]; ok {
			return n, nil
		}
		if n, ok := errnos[e.Text]; ok {
			return n, nil
		}
		if d, ok := m.set.define[e.Text]; ok {
			if n, err := strconv.ParseInt(d, 0, 64); err == nil {
				return n, nil
			}
			return m.num(Expr{Kind: Name, Text: d})
		}
		if e.Text == "NULL" {
			return 0, nil
		}
		return 0, unsupportedf("name %s", e.Text)
	case Or:
		l, err := m.num(e.Args[0])
		if err != nil {
			return 0, err
		}
		r, err := m.num(e.Args[1])
		return l | r, err
	case Not:
		n, err := m.num(e.Args[0])
		return ^n, err
	case Array:
		if len(e.Args) == 1 {
			return m.num(e.Args[0])
		}
	}
	return 0, unsupportedf("an argument that is no number")
}

// arg evaluates argument i. A missing argument, or "...", is 0.
func (m *machine) arg(a []Expr, i int) (int64, error) {
	if i >= len(a) || a[i].Kind == Ellipsis {
		return 0, nil
	}
	return m.num(a[i])
}

// system runs the system call of ev.
func (m *machine) system(ev *Event, to, tol int64) error {
	if m.call != nil {
		if err := m.finish(); err != nil {
			return err
		}
	}
	f := calls[ev.Call.Name]
	if f == nil {
		return unsupportedf("%s()", ev.Call.Name)
	}
	o, err := f(m, ev.Call)
	if err != nil {
		return err
	}
	m.call = &pending{ev: ev, op: *o, end: to, tol: tol}
	if !ev.Time.Blocking {
		m.call.end = -1
		return m.finish()
	}
	return m.progress()
}

// finish waits for the call that runs.
func (m *machine) finish() error {
	limit := m.now + patience
	if m.call.end >= 0 {
		limit = m.begin + m.call.end + overdue
	}
	for {
		if err := m.progress(); err != nil || m.call == nil {
			return err
		}
		if !m.step(limit) {
			return &lineError{m.call.ev.Line, failf("%s() does not return", m.call.ev.Call.Name)}
		}
	}
}

// progress lets the running call go on, and judges it when it is done.
func (m *machine) progress() error {
	if m.call == nil {
		return nil
	}
	p := m.call
	n, errno, done := p.op.try()
	m.settle()
	if !done {
		return nil
	}
	m.call = nil
	if err := m.judge(p, n, errno); err != nil {
		return &lineError{p.ev.Line, err}
	}
	return nil
}

// errnoAlias has second names of errors.
var errnoAlias = map[string]syscall.Errno{"EWOULDBLOCK": syscall.EAGAIN, "EOPNOTSUPP": syscall.ENOTSUP}

// judge compares what a call returned with what the script expects.
func (m *machine) judge(p *pending, n int64, errno syscall.Errno) error {
	c := p.ev.Call
	if late := m.since() - p.end; p.end >= 0 && max(late, -late) > p.tol {
		return failf("%s() returned at %s, not at %s", c.Name, seconds(m.since()), seconds(p.end))
	}
	if c.Result.Kind == Ellipsis {
		return nil
	}
	want, err := m.num(c.Result)
	if err != nil {
		return err
	}
	is := strconv.FormatInt(n, 10)
	if errno != 0 {
		is += " " + unix.ErrnoName(errno)
	}
	switch {
	case p.op.file != nil && errno == 0 && want >= 0:
		m.fds[int(want)] = p.op.file()
		return nil
	case n != want:
		return failf("%s() returned %s, not %d %s", c.Name, is, want, c.Errno)
	case c.Errno != "" && c.Errno != unix.ErrnoName(errno) && errnoAlias[c.Errno] != errno:
		return failf("%s() returned %s, not %s", c.Name, is, c.Errno)
	case p.op.check != nil:
		return p.op.check()
	}
	return nil
}

func (m *machine) sysClose(c *Call) (*op, error) {
	f, err := m.file(c.Args)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return instant(-1, syscall.EBADF), nil
	}
	fd, _ := m.num(c.Args[0])
	delete(m.fds, int(fd))
	return f.close(), nil
}
