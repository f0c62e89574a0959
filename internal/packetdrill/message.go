package packetdrill

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// buffer evaluates a buffer and its length.
func (s *socket) buffer(a []Expr) (int64, error) {
	if len(a) < 2 {
		return 0, failf("a buffer and its length expected")
	}
	if a[0].Kind != Ellipsis && a[0].Kind != String {
		return 0, unsupportedf("bad pointers")
	}
	return s.m.num(a[1])
}

func (s *socket) read(a []Expr) (*op, error) {
	n, err := s.buffer(a)
	if err != nil {
		return nil, err
	}
	return s.fetch(n, false)
}

func (s *socket) write(a []Expr) (*op, error) {
	n, err := s.buffer(a)
	if err != nil {
		return nil, err
	}
	return s.transmit(n, 0, nil)
}

// transmit is a write of n bytes with the flags MSG_*, to the address that to
// begins with, if any.
func (s *socket) transmit(n, flags int64, to []Expr) (*op, error) {
	family, err := s.m.arg(to, 0)
	if err != nil {
		return nil, err
	}
	dontwait := flags&unix.MSG_DONTWAIT != 0
	open, errno := s.fastSend(flags, family, len(to) > 0 && to[0].Kind != Ellipsis)
	switch {
	case errno != 0:
		return instant(-1, errno), nil
	case open:
		return s.fastPut(n, dontwait)
	}
	return s.put(n, dontwait)
}

// flags evaluates MSG_*; those that are not in ok are unsupported.
func (s *socket) flags(a []Expr, i int, ok int64) (f int64, err error) {
	f, err = s.m.arg(a, i)
	if err == nil && f&^(ok|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) != 0 {
		err = unsupportedf("MSG flags %#x", f)
	}
	return f, err
}

func (s *socket) recv(a []Expr) (*op, error) {
	n, err := s.buffer(a)
	if err != nil {
		return nil, err
	}
	f, err := s.flags(a, 2, unix.MSG_PEEK)
	if err != nil {
		return nil, err
	}
	if f&unix.MSG_PEEK != 0 {
		return s.peek(n, f&unix.MSG_DONTWAIT != 0)
	}
	return s.fetch(n, f&unix.MSG_DONTWAIT != 0)
}

// peek is a read of n bytes that leaves them in the queue. It returns their number;
// the next read sees them again.
func (s *socket) peek(n int64, dontwait bool) (*op, error) {
	if s.conn == nil {
		return instant(-1, syscall.ENOTCONN), nil
	}
	return &op{try: func() (int64, syscall.Errno, bool) {
		if k := int64(s.conn.tc.Info(s.m.now).Unread); k > 0 {
			return min(k, n), 0, true
		}
		if s.ready()&unix.POLLIN != 0 {
			return 0, 0, true
		}
		return -1, syscall.EAGAIN, s.nonblock || dontwait
	}}, nil
}

func (s *socket) send(a []Expr) (*op, error) {
	n, err := s.buffer(a)
	if err != nil {
		return nil, err
	}
	f, err := s.flags(a, 2, unix.MSG_FASTOPEN)
	if err != nil {
		return nil, err
	}
	return s.transmit(n, f, a[min(3, len(a)):])
}

// vector adds up [{..., n}, ...].
func (s *socket) vector(e Expr) (n int64, err error) {
	if e.Kind != Array {
		return 0, unsupportedf("bad pointers")
	}
	for _, v := range e.Args {
		if v.Kind != Struct || len(v.Args) != 2 {
			return 0, failf("{buffer, length} expected")
		}
		k, err := s.buffer(v.Args)
		if err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

func (s *socket) readv(a []Expr) (*op, error) {
	if len(a) != 2 {
		return nil, failf("readv() takes three arguments")
	}
	n, err := s.vector(a[0])
	if err != nil {
		return nil, err
	}
	return s.fetch(n, false)
}

func (s *socket) writev(a []Expr) (*op, error) {
	if len(a) != 2 {
		return nil, failf("writev() takes three arguments")
	}
	n, err := s.vector(a[0])
	if err != nil {
		return nil, err
	}
	return s.transmit(n, 0, nil)
}

// message is struct msghdr with flags, of which those in ok are known.
func (s *socket) message(a []Expr, ok int64) (n, flags int64, err error) {
	if len(a) != 2 || a[0].Kind != Struct {
		return 0, 0, unsupportedf("bad pointers")
	}
	for _, f := range a[0].Fields {
		switch {
		case f.Name == "msg_iov":
			if n, err = s.vector(f.Value); err != nil {
				return 0, 0, err
			}
		case f.Name == "msg_control" && !(f.Value.Kind == Array && len(f.Value.Args) == 0) && f.Value.Kind != Ellipsis:
			return 0, 0, unsupportedf("control messages")
		}
	}
	flags, err = s.flags(a, 1, ok)
	return n, flags, err
}

func (s *socket) recvmsg(a []Expr) (*op, error) {
	n, f, err := s.message(a, 0)
	if err != nil {
		return nil, err
	}
	return s.fetch(n, f&unix.MSG_DONTWAIT != 0)
}

func (s *socket) sendmsg(a []Expr) (*op, error) {
	n, f, err := s.message(a, unix.MSG_FASTOPEN)
	if err != nil {
		return nil, err
	}
	return s.transmit(n, f, nil)
}

func (s *socket) fcntl(a []Expr) (*op, error) {
	cmd, err := s.m.arg(a, 0)
	if err != nil {
		return nil, err
	}
	val, err := s.m.arg(a, 1)
	switch cmd {
	case unix.F_GETFL:
		n := int64(unix.O_RDWR)
		if s.nonblock {
			n |= unix.O_NONBLOCK
		}
		return instant(n, 0), err
	case unix.F_SETFL:
		s.nonblock = val&unix.O_NONBLOCK != 0
		return instant(0, 0), err
	}
	return nil, unsupportedf("fcntl command %d", cmd)
}

func (s *socket) ioctl(a []Expr) (*op, error) {
	cmd, err := s.m.arg(a, 0)
	if err != nil {
		return nil, err
	}
	if s.conn == nil {
		return instant(-1, syscall.EINVAL), nil
	}
	o := instant(0, 0)
	o.check = func() error {
		i := s.conn.tc.Info(s.m.now)
		is := int64(i.Unread)
		switch cmd {
		case unix.SIOCINQ:
		case unix.SIOCOUTQ:
			is = int64(i.InFlight + i.Unsent)
		default:
			return unsupportedf("ioctl %d", cmd)
		}
		want, err := s.m.arg(a, 1)
		if err == nil && want != is {
			err = failf("ioctl() tells %d, not %d", is, want)
		}
		return err
	}
	return o, nil
}
