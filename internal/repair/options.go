package repair

import (
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// Bits of SO_BUF_LOCK (include/uapi/linux/socket.h): the program set the size.
const (
	sndBufLock = 1
	rcvBufLock = 2
)

// setter sets options one after the other, and keeps the first error.
type setter struct {
	fd  int
	err error
}

func (s *setter) int(level, opt, v int) {
	if s.err == nil {
		s.err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, level, opt, v))
	}
}

// buffer sets the size of a buffer, beyond the system's limit where the process may: that
// takes CAP_NET_ADMIN in the first user namespace, which TCP_REPAIR does not.
func (s *setter) buffer(force, plain, v int) {
	if s.err != nil {
		return
	}
	err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, v)
	if err == unix.EPERM {
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, v)
	}
	s.err = os.NewSyscallError("setsockopt", err)
}

// ip returns the level of a family's options, and those of TOS and TTL.
func ip(six bool) (level, tos, ttl int) {
	if six {
		return unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	}
	return unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
}

// setRouted sets what is to be there before the socket is connected: what its route
// depends on, and buffers that hold all that it will be given, and the window that the
// peer was promised.
func setRouted(fd int, c *tcp.Snapshot) error {
	o := &c.Options
	s := setter{fd: fd}
	if o.Mark != 0 {
		s.int(unix.SOL_SOCKET, unix.SO_MARK, int(o.Mark))
	}
	level, tos, ttl := ip(isSix(c))
	if o.TOS != 0 {
		s.int(level, tos, int(o.TOS))
	}
	if o.TTL != 0 {
		s.int(level, ttl, int(o.TTL))
	}
	// The kernel doubles both, for what it keeps beside the data (socket(7)).
	const beside = 64 << 10
	s.buffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, max(o.RcvBuf, len(c.Recv)+int(c.RcvAdv-c.RcvNxt)+beside))
	s.buffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, max(o.SndBuf, len(c.Send)+beside))
	return s.err
}

// setOptions sets the others, on a socket that is out of repair.
func setOptions(fd int, c *tcp.Snapshot) error {
	o := &c.Options
	s := setter{fd: fd}
	if o.RcvFixed {
		s.buffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.RcvBuf)
	}
	if o.SndFixed {
		s.buffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, o.SndBuf)
	}
	locks := 0
	if o.RcvFixed {
		locks |= rcvBufLock
	}
	if o.SndFixed {
		locks |= sndBufLock
	}
	// Kernels before 5.14 do not know it. Their buffers no longer grow.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, locks)

	seconds := func(d time.Duration) int { return max(int(d.Round(time.Second)/time.Second), 1) }
	ka := o.KeepAlive
	if ka.Idle > 0 {
		s.int(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(ka.Idle))
	}
	if ka.Interval > 0 {
		s.int(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(ka.Interval))
	}
	if ka.Count > 0 {
		s.int(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, ka.Count)
	}
	s.int(unix.SOL_SOCKET, unix.SO_KEEPALIVE, flag(ka.Enable))
	if o.UserTimeout != 0 {
		s.int(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout/time.Millisecond))
	}
	if o.FinWait2 != 0 {
		s.int(unix.IPPROTO_TCP, unix.TCP_LINGER2, lingerSeconds(o.FinWait2))
	}
	if o.QuickAck {
		s.int(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
	if o.Linger >= 0 && s.err == nil {
		s.err = os.NewSyscallError("setsockopt", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER,
			&unix.Linger{Onoff: 1, Linger: int32(o.Linger)}))
	}
	if o.MaxPacingRate != 0 && s.err == nil {
		s.err = os.NewSyscallError("setsockopt", unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, o.MaxPacingRate))
	}
	if o.Congestion != "" {
		// One that the kernel does not have becomes its default.
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, kernelCongestion(o.Congestion))
	}
	if c.Hints.Passive {
		// A connection has it from its listener: another one may listen on the port.
		s.int(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	// TCP_MAXSEG carried the peer's MSS until now.
	s.int(unix.IPPROTO_TCP, unix.TCP_MAXSEG, int(o.MaxSeg))
	return s.err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// lingerSeconds is d for TCP_LINGER2, which is below 0 for a reset.
func lingerSeconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return max(int(d/time.Second), 1)
}

// kernelCongestion and ourCongestion translate the one name that differs.
func kernelCongestion(name string) string {
	if name == "newreno" {
		return "reno"
	}
	return name
}

func ourCongestion(name string) string {
	if name == "reno" {
		return "newreno"
	}
	return name
}

// getOptions is the reverse of setRouted and setOptions. An option that this kernel
// does not have is left at its default.
func getOptions(fd int, six bool) tcp.SnapshotOptions {
	get := func(level, opt int) int {
		v, _ := unix.GetsockoptInt(fd, level, opt)
		return v
	}
	seconds := func(opt int) time.Duration { return time.Duration(get(unix.IPPROTO_TCP, opt)) * time.Second }
	level, tos, ttl := ip(six)
	locks := get(unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	o := tcp.SnapshotOptions{
		NoDelay: get(unix.IPPROTO_TCP, unix.TCP_NODELAY) != 0,
		KeepAlive: tcp.KeepAlive{
			Enable: get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0,
			Idle:   seconds(unix.TCP_KEEPIDLE), Interval: seconds(unix.TCP_KEEPINTVL), Count: get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
		},
		Linger:      -1,
		UserTimeout: time.Duration(get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)) * time.Millisecond,
		RcvBuf:      get(unix.SOL_SOCKET, unix.SO_RCVBUF) / 2, RcvFixed: locks&rcvBufLock != 0,
		SndBuf: get(unix.SOL_SOCKET, unix.SO_SNDBUF) / 2, SndFixed: locks&sndBufLock != 0,
		FinWait2: time.Duration(max(get(unix.IPPROTO_TCP, unix.TCP_LINGER2), -1)) * time.Second,
		TOS:      uint8(get(level, tos)) &^ 3, // the low bits are ECN's (RFC 3168)
		Mark:     uint32(get(unix.SOL_SOCKET, unix.SO_MARK)),
	}
	// An IPv4 socket shows the default where no TTL was set. An IPv6 socket shows the
	// route's. Either is what packets have.
	if v := get(level, ttl); v > 0 && v <= math.MaxUint8 {
		o.TTL = uint8(v)
	}
	if l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err == nil && l.Onoff != 0 {
		o.Linger = int(l.Linger)
	}
	if rate, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE); err == nil && rate != math.MaxUint64 {
		o.MaxPacingRate = rate
	}
	if name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err == nil {
		o.Congestion = ourCongestion(strings.TrimRight(name, "\x00"))
	}
	return o
}
