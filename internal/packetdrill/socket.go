package packetdrill

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// socket is a descriptor of TCP, with the semantics of Linux's.
type socket struct {
	m        *machine
	cfg      tcp.Config
	nonblock bool
	port     uint16 // bound; 0: not
	lst      *listener
	conn     *conn
	opts     map[[2]int64]int64 // as set by setsockopt

	wrote, took         int64 // bytes of the stream
	readShut, writeShut bool
	told                bool // the error was reported
	tried               bool // connect has returned EINPROGRESS
	settled             bool // a call has seen it connected (Linux's SS_CONNECTED)
	passive             bool // accept returned it
}

func (m *machine) sysSocket(c *Call) (*op, error) {
	if len(c.Args) != 3 {
		return nil, failf("socket() takes three arguments")
	}
	typ, err := m.num(c.Args[1])
	if err != nil {
		return nil, err
	}
	proto, err := m.num(c.Args[2])
	if err != nil {
		return nil, err
	}
	if typ&^unix.SOCK_NONBLOCK != unix.SOCK_STREAM || proto != 0 && proto != unix.IPPROTO_TCP {
		return nil, unsupportedf("a socket that is not TCP's")
	}
	s := &socket{m: m, cfg: m.set.tcp, nonblock: typ&unix.SOCK_NONBLOCK != 0, opts: map[[2]int64]int64{}}
	o := instant(0, 0)
	o.file = func() file {
		m.flow = &flow{state: flowNew}
		return s
	}
	return o, nil
}

func (s *socket) bind([]Expr) (*op, error) {
	if s.port != 0 || s.conn != nil {
		return instant(-1, syscall.EINVAL), nil
	}
	s.port = s.m.set.bindPort
	return instant(0, 0), nil
}

func (s *socket) listen(a []Expr) (*op, error) {
	n, err := s.m.arg(a, 0)
	if err != nil {
		return nil, err
	}
	if s.conn != nil {
		return instant(-1, syscall.EINVAL), nil
	}
	if s.lst == nil {
		s.listenFast(int(n))
		s.lst = s.m.host.listen(&s.cfg, netip.AddrPortFrom(s.m.set.local, s.port), int(n))
		if s.m.flow != nil && s.m.flow.state == flowNew {
			s.m.flow.state = flowListening
		}
	}
	return instant(0, 0), nil
}

func (s *socket) accept([]Expr) (*op, error) {
	if s.lst == nil {
		return instant(-1, syscall.EINVAL), nil
	}
	o := &op{}
	var c *conn
	o.try = func() (int64, syscall.Errno, bool) {
		if c = s.lst.accept(); c == nil {
			return -1, syscall.EAGAIN, s.nonblock
		}
		return 0, 0, true
	}
	o.file = func() file {
		n := &socket{m: s.m, cfg: s.cfg, conn: c, settled: true, passive: true, opts: map[[2]int64]int64{}}
		for k, v := range s.opts {
			n.opts[k] = v
		}
		return n
	}
	return o, nil
}

func (s *socket) connect(a []Expr) (*op, error) {
	if len(a) > 0 && a[0].Kind == Name && a[0].Text == "AF_UNSPEC" {
		return nil, unsupportedf("a connection that is dissolved")
	}
	if s.lst != nil {
		return instant(-1, syscall.EISCONN), nil
	}
	if s.conn == nil {
		if err := s.dial(s.cfg.FastOpenConnect); err != nil {
			return nil, err
		}
		if s.deferred() {
			return instant(0, 0), nil
		}
	} else if s.deferred() {
		return instant(-1, syscall.EISCONN), nil
	} else if s.connecting() && s.nonblock {
		return instant(-1, syscall.EALREADY), nil
	} else if !s.tried && s.err() == 0 {
		return instant(-1, syscall.EISCONN), nil
	}
	return &op{try: func() (int64, syscall.Errno, bool) {
		if s.connecting() {
			s.tried = s.nonblock
			return -1, syscall.EINPROGRESS, s.nonblock
		}
		if e := s.takeErr(); e != 0 {
			return -1, e, true
		}
		s.tried, s.settled = false, true
		return 0, 0, true
	}}, nil
}

// dial opens the connection. fast: by Fast Open, if possible.
func (s *socket) dial(fast bool) error {
	m := s.m
	port := s.port
	if port == 0 {
		m.local++
		port = m.local
	}
	remote := netip.AddrPortFrom(m.set.remote, m.set.connectPort)
	if m.flow == nil || m.flow.state != flowNew {
		return unsupportedf("a socket that connects while another is under test")
	}
	local := netip.AddrPortFrom(m.set.local, port)
	m.flow.state, m.flow.local, m.flow.remote = flowConnecting, local, remote
	cfg := s.cfg
	cfg.FastOpenConnect, cfg.FastOpenNoCookie = fast, m.set.fast.has(foClientNoCookie)
	s.conn = m.dial(&cfg, local, remote)
	return nil
}

func (s *socket) connecting() bool {
	if s.conn == nil || s.conn.ended || s.passive {
		return false
	}
	st := s.conn.tc.State()
	return st == tcp.SynSent || st == tcp.SynReceived
}

// err is the error that ended the connection.
func (s *socket) err() syscall.Errno {
	if s.conn == nil {
		return 0
	}
	if e, ok := s.conn.tc.Err().(syscall.Errno); ok {
		return e
	}
	return 0
}

// takeErr is err, once: as Linux's sk_err.
func (s *socket) takeErr() syscall.Errno {
	e := s.err()
	if s.told {
		return 0
	}
	s.told = e != 0
	return e
}

// fetch is a read of n bytes.
func (s *socket) fetch(n int64, dontwait bool) (*op, error) {
	if s.conn == nil {
		return instant(-1, syscall.ENOTCONN), nil
	}
	b := make([]byte, n)
	if s.deferred() && !s.nonblock && !dontwait {
		s.conn.tc.ReadDeferred(s.m.now)
	}
	o := &op{}
	got := 0
	o.try = func() (int64, syscall.Errno, bool) {
		if n == 0 {
			return 0, 0, true
		}
		c := s.conn
		k, eof, update := c.tc.Read(b)
		if update && !c.ended {
			c.tc.WindowUpdate(s.m.now)
		}
		switch {
		case k > 0:
			got = k
			return int64(k), 0, true
		case eof || s.readShut:
			return 0, 0, true
		}
		if e := s.takeErr(); e != 0 {
			return -1, e, true
		}
		if c.ended {
			return 0, 0, true
		}
		return -1, syscall.EAGAIN, s.nonblock || dontwait
	}
	o.check = func() error {
		for i, x := range b[:got] {
			if want := patternAt(s.took + int64(i)); x != want {
				return failf("byte %d read is %#x, %#x was sent", s.took+int64(i), x, want)
			}
		}
		s.took += int64(got)
		return nil
	}
	return o, nil
}

// put is a write of n bytes.
func (s *socket) put(n int64, dontwait bool) (*op, error) {
	if s.conn == nil {
		return instant(-1, syscall.EPIPE), nil
	}
	wait := !s.nonblock && !dontwait
	left := pattern(s.wrote, int(n))
	done := int64(0)
	return &op{try: func() (int64, syscall.Errno, bool) {
		c := s.conn
		fail := func(e syscall.Errno) (int64, syscall.Errno, bool) {
			if done > 0 {
				return done, 0, true
			}
			return -1, e, true
		}
		if e := s.takeErr(); e != 0 {
			return fail(e)
		}
		if s.writeShut || c.ended {
			return fail(syscall.EPIPE)
		}
		if s.connecting() {
			if wait {
				return 0, 0, false
			}
			return fail(syscall.EAGAIN)
		}
		k := c.tc.Write(left)
		c.tc.Output(s.m.now)
		left = left[k:]
		done += int64(k)
		s.wrote += int64(k)
		switch {
		case len(left) == 0:
			return done, 0, true
		case wait:
			return 0, 0, false
		}
		return fail(syscall.EAGAIN)
	}}, nil
}

func (s *socket) shutdown(a []Expr) (*op, error) {
	how, err := s.m.arg(a, 0)
	if err != nil {
		return nil, err
	}
	c := s.conn
	if c == nil || c.ended {
		return instant(-1, syscall.ENOTCONN), nil
	}
	if how == unix.SHUT_RD || how == unix.SHUT_RDWR {
		s.readShut = true
	}
	if how == unix.SHUT_WR || how == unix.SHUT_RDWR {
		s.writeShut = true
		c.tc.CloseWrite(s.m.now)
	}
	s.m.settle()
	return instant(0, 0), nil
}

// close implements file. SO_LINGER makes it wait.
func (s *socket) close() *op {
	if s.lst != nil {
		s.lst.close()
	}
	c := s.conn
	if c == nil {
		return instant(0, 0)
	}
	linger := c.tc.Linger()
	c.orphan = true
	c.tc.Close(s.m.now)
	s.m.settle()
	if linger <= 0 || s.nonblock {
		return instant(0, 0)
	}
	until := s.m.now + int64(linger)*int64(time.Second)
	return &op{at: until, try: func() (int64, syscall.Errno, bool) {
		st := c.tc.State()
		return 0, 0, c.ended || st == tcp.FinWait2 || s.m.now >= until
	}}
}

// ready implements file, as tcp_poll has it.
func (s *socket) ready() (ev uint32) {
	if s.lst != nil {
		if len(s.lst.queue) > 0 {
			ev = unix.POLLIN | pollRdNorm
		}
		return ev
	}
	c := s.conn
	if c == nil {
		return unix.POLLOUT | pollWrNorm | unix.POLLHUP
	}
	st := c.tc.State()
	switch {
	case s.deferred():
		return unix.POLLOUT | pollWrNorm
	case s.connecting():
		return 0
	}
	eof := c.ended || st == tcp.CloseWait || st == tcp.LastAck || st == tcp.Closing || s.readShut
	if s.err() != 0 && !s.told {
		ev |= unix.POLLERR
	}
	if c.ended || eof && s.writeShut {
		ev |= unix.POLLHUP
	}
	if eof {
		ev |= unix.POLLIN | pollRdNorm | unix.POLLRDHUP
	}
	if c.tc.Readable() {
		ev |= unix.POLLIN | pollRdNorm
	}
	if s.writeShut || c.ended || c.tc.Writable() {
		ev |= unix.POLLOUT | pollWrNorm
	}
	return ev
}

// marks implements file.
func (s *socket) marks() (in, out int) {
	switch {
	case s.lst != nil:
		return len(s.lst.queue), 0
	case s.conn != nil:
		// A reader is woken for the first waiting byte only; an edge stands for all
		// of them.
		return s.conn.rcvd + int(s.conn.tc.Info(s.m.now).BytesReceived), s.conn.room
	}
	return 0, 0
}
