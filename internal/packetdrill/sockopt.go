package packetdrill

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sockopts are the options that change something of ours. set is called with the
// value.
var sockopts = map[[2]int64]func(s *socket, v int64) syscall.Errno{
	{unix.SOL_SOCKET, unix.SO_SNDBUF}: func(s *socket, v int64) syscall.Errno {
		s.cfg.SndBuf = int(v)
		if s.conn != nil {
			s.conn.tc.SetSndBuf(int(v))
		}
		return 0
	},
	{unix.SOL_SOCKET, unix.SO_RCVBUF}: func(s *socket, v int64) syscall.Errno {
		s.cfg.RcvBuf = int(v)
		if s.conn != nil {
			s.conn.tc.SetRcvBuf(int(v))
		}
		return 0
	},
	{unix.SOL_TCP, unix.TCP_NODELAY}: func(s *socket, v int64) syscall.Errno {
		s.cfg.NoDelay = v != 0
		if s.conn != nil {
			s.conn.tc.SetNoDelay(v != 0)
			s.conn.tc.Output(s.m.now)
		}
		return 0
	},
	{unix.SOL_TCP, unix.TCP_USER_TIMEOUT}: func(s *socket, v int64) syscall.Errno {
		s.cfg.UserTimeout = time.Duration(v) * time.Millisecond
		if s.conn != nil {
			s.conn.tc.SetUserTimeout(s.cfg.UserTimeout)
		}
		return 0
	},
	{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT}: func(s *socket, v int64) syscall.Errno {
		s.cfg.DeferAccept = time.Duration(v) * time.Second
		return 0
	},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}: func(s *socket, v int64) syscall.Errno {
		s.cfg.KeepAlive.Enable = v != 0
		return s.keepAlive()
	},
	{unix.SOL_TCP, unix.TCP_KEEPIDLE}: func(s *socket, v int64) syscall.Errno {
		s.cfg.KeepAlive.Idle = time.Duration(v) * time.Second
		return s.keepAlive()
	},
	{unix.SOL_TCP, unix.TCP_KEEPINTVL}: func(s *socket, v int64) syscall.Errno {
		s.cfg.KeepAlive.Interval = time.Duration(v) * time.Second
		return s.keepAlive()
	},
	{unix.SOL_TCP, unix.TCP_KEEPCNT}: func(s *socket, v int64) syscall.Errno {
		s.cfg.KeepAlive.Count = int(v)
		return s.keepAlive()
	},
	{unix.SOL_TCP, unix.TCP_SYNCNT}: func(s *socket, v int64) syscall.Errno {
		if v < 1 || v > 127 {
			return syscall.EINVAL
		}
		s.cfg.SYNRetries = int(v)
		if s.conn != nil {
			s.conn.tc.SetSYNRetries(int(v))
		}
		return 0
	},
	{unix.SOL_TCP, unix.TCP_FASTOPEN}:         (*socket).setFastOpen,
	{unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}: (*socket).setFastConnect,
	// A segment is what a smaller MTU leaves room for.
	{unix.SOL_TCP, unix.TCP_MAXSEG}: func(s *socket, v int64) syscall.Errno {
		if s.conn != nil {
			return syscall.ENOPROTOOPT
		}
		s.cfg.MTU = min(s.cfg.MTU, int(v)+s.m.set.headers())
		return 0
	},
	// The IP header is not ours, and no router sends errors unasked.
	{unix.SOL_IP, unix.IP_TOS}:           func(*socket, int64) syscall.Errno { return 0 },
	{unix.SOL_IP, unix.IP_MTU_DISCOVER}:  func(*socket, int64) syscall.Errno { return 0 },
	{unix.SOL_SOCKET, unix.SO_REUSEADDR}: func(*socket, int64) syscall.Errno { return 0 },
	{unix.SOL_SOCKET, unix.SO_REUSEPORT}: func(*socket, int64) syscall.Errno { return 0 },
}

func (s *socket) keepAlive() syscall.Errno {
	if s.conn != nil {
		s.conn.tc.SetKeepAlive(s.cfg.KeepAlive, s.m.now)
	}
	return 0
}

func (s *socket) setsockopt(a []Expr) (*op, error) {
	if len(a) != 4 {
		return nil, failf("setsockopt() takes five arguments")
	}
	level, err := s.m.num(a[0])
	if err != nil {
		return nil, err
	}
	name, err := s.m.num(a[1])
	if err != nil {
		return nil, err
	}
	key := [2]int64{level, name}
	switch {
	case key == [2]int64{unix.SOL_TCP, unix.TCP_CONGESTION}:
		return s.setCongestion(a[2])
	case key == [2]int64{unix.SOL_SOCKET, unix.SO_LINGER}:
		return s.setLinger(a[2])
	case key == [2]int64{unix.SOL_TCP, unix.TCP_FASTOPEN_KEY}:
		n, err := s.m.num(a[3])
		if err != nil {
			return nil, err
		}
		return s.setFastKey(a[2], n)
	case sockopts[key] == nil:
		return nil, unsupportedf("socket option %s", exprName(a[1]))
	}
	v, err := s.m.num(a[2])
	if err != nil {
		return nil, err
	}
	errno := sockopts[key](s, v)
	s.m.settle()
	if errno != 0 {
		return instant(-1, errno), nil
	}
	s.opts[key] = v
	return instant(0, 0), nil
}

func exprName(e Expr) string {
	if e.Text != "" {
		return e.Text
	}
	return "of that number"
}

func (s *socket) setCongestion(e Expr) (*op, error) {
	if e.Kind == Array && len(e.Args) == 1 {
		e = e.Args[0]
	}
	name := e.Text
	if name == "reno" {
		name = "newreno"
	}
	if s.conn != nil && !s.conn.tc.SetCongestion(name, s.m.now) {
		return instant(-1, syscall.ENOENT), nil
	}
	s.cfg.Congestion = name
	return instant(0, 0), nil
}

func (s *socket) setLinger(e Expr) (*op, error) {
	on, sec := int64(0), int64(0)
	for _, f := range e.Fields {
		n, err := s.m.num(f.Value)
		if err != nil {
			return nil, err
		}
		switch f.Name {
		case "onoff", "l_onoff":
			on = n
		case "linger", "l_linger":
			sec = n
		}
	}
	if s.conn == nil {
		return nil, unsupportedf("SO_LINGER before there is a connection")
	}
	if on == 0 {
		sec = -1
	}
	s.conn.tc.SetLinger(int(sec))
	return instant(0, 0), nil
}

func (s *socket) getsockopt(a []Expr) (*op, error) {
	if len(a) != 4 {
		return nil, failf("getsockopt() takes five arguments")
	}
	level, err := s.m.num(a[0])
	if err != nil {
		return nil, err
	}
	name, err := s.m.num(a[1])
	if err != nil {
		return nil, err
	}
	key := [2]int64{level, name}
	v, ok := s.opts[key]
	switch key {
	case [2]int64{unix.SOL_SOCKET, unix.SO_ERROR}:
		v = int64(s.takeErr())
	case [2]int64{unix.SOL_SOCKET, unix.SO_SNDBUF}, [2]int64{unix.SOL_SOCKET, unix.SO_RCVBUF}:
		if s.m.set.bsd {
			return instant(0, 0), nil
		}
		if !ok {
			return nil, unsupportedf("the default of %s", exprName(a[1]))
		}
		v *= 2 // what Linux tells, for its overhead
	case [2]int64{unix.SOL_TCP, unix.TCP_MAXSEG}:
		if s.conn != nil {
			i := s.conn.tc.Info(s.m.now)
			v = int64(i.SendMSS)
		}
	default:
		if !ok && sockopts[key] == nil {
			return nil, unsupportedf("socket option %s", exprName(a[1]))
		}
	}
	o := instant(0, 0)
	o.check = func() error {
		if a[2].Kind == Ellipsis {
			return nil
		}
		want, err := s.m.num(a[2])
		if err == nil && want != v {
			err = failf("getsockopt() tells %d, not %d", v, want)
		}
		return err
	}
	return o, nil
}
