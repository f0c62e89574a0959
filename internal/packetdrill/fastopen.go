package packetdrill

import (
	"encoding/hex"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// Bits of the sysctl tcp_fastopen. Others that scripts set are not Linux's.
const (
	foClient         = 0x1
	foServer         = 0x2
	foClientNoCookie = 0x4
	foServerNoCookie = 0x200
	foEveryListener  = 0x400 // also listeners that did not ask
)

// fastOpen has the script's settings of Fast Open for the host.
type fastOpen struct {
	bits int64 // the sysctl
	keys tcp.FastOpenKeys
}

// The defaults of Linux, and of defaults.sh of the public scripts.
var (
	linuxFastOpen  = fastOpen{bits: foClient}
	publicFastOpen = fastOpen{
		bits: 0x70403,
		keys: tcp.FastOpenKeys{N: 1, Keys: [2]tcp.FastOpenKey{
			{0xa1, 0xa1, 0xa1, 0xa1, 0xb2, 0xb2, 0xb2, 0xb2, 0xc3, 0xc3, 0xc3, 0xc3, 0xd4, 0xd4, 0xd4, 0xd4},
		}},
	}
)

func (f *fastOpen) has(bit int64) bool { return f.bits&bit != 0 }

// Cookies that the public key makes for the peers of scripts that do not name
// their addresses.
const (
	publicCookie4 = "3021b9d889017eeb"
	publicCookie6 = "c1d1e9742a47a9bc"
)

// resolveCookie fills in a cookie that a name stands for.
func (s *settings) resolveCookie(o *TCPOption) (err error) {
	if o.CookieName == "" {
		return nil
	}
	if o.Cookie, err = hex.DecodeString(s.define[o.CookieName]); err != nil || len(o.Cookie) == 0 {
		return failf("no cookie %q", o.CookieName)
	}
	return nil
}

// listenFast applies the host's Fast Open settings to a listener.
func (s *socket) listenFast(backlog int) {
	f := &s.m.set.fast
	if s.cfg.FastOpen == 0 && f.has(foEveryListener) {
		s.cfg.FastOpen = backlog
	}
	if !f.has(foServer) {
		s.cfg.FastOpen = 0
	}
	s.cfg.FastOpenNoCookie = f.has(foServerNoCookie)
	if s.cfg.FastOpenKeys.N == 0 {
		s.cfg.FastOpenKeys = f.keys
	}
}

// setFastOpen is TCP_FASTOPEN.
func (s *socket) setFastOpen(v int64) syscall.Errno {
	if v < 0 || s.conn != nil {
		return syscall.EINVAL
	}
	if s.m.set.fast.has(foServer) {
		s.cfg.FastOpen = int(v)
	}
	return 0
}

// setFastConnect is TCP_FASTOPEN_CONNECT.
func (s *socket) setFastConnect(v int64) syscall.Errno {
	switch {
	case v != 0 && v != 1:
		return syscall.EINVAL
	case !s.m.set.fast.has(foClient):
		return syscall.EOPNOTSUPP
	case s.conn != nil || s.lst != nil:
		return syscall.EINVAL
	}
	s.cfg.FastOpenConnect = v != 0
	return 0
}

// setFastKey is TCP_FASTOPEN_KEY: one key, or two, as bytes.
func (s *socket) setFastKey(key Expr, n int64) (*op, error) {
	if key.Kind != String {
		return nil, unsupportedf("bad pointers")
	}
	keys, ok := tcp.NewFastOpenKeys([]byte(key.Text)[:max(min(int(n), len(key.Text)), 0)])
	if !ok {
		return instant(-1, syscall.EINVAL), nil
	}
	s.cfg.FastOpenKeys = keys
	return instant(0, 0), nil
}

// deferred reports whether connect returned without sending a SYN, which the
// first write then sends.
func (s *socket) deferred() bool { return s.conn != nil && s.conn.tc.Deferred() }

// fastPut is a write that opens the connection, as Linux's tcp_sendmsg_fastopen:
// with MSG_FASTOPEN, or after a connect that sent no SYN.
func (s *socket) fastPut(n int64, dontwait bool) (*op, error) {
	wait := !s.nonblock && !dontwait
	switch {
	case !s.m.set.fast.has(foClient):
		return instant(-1, syscall.EOPNOTSUPP), nil
	case s.lst != nil:
		return instant(-1, syscall.EISCONN), nil
	case s.conn == nil:
		if err := s.dial(true); err != nil {
			return nil, err
		}
	case s.deferred():
	case s.settled:
		return instant(-1, syscall.EISCONN), nil
	case s.connecting() && !wait:
		return instant(-1, syscall.EALREADY), nil
	default:
		s.settled = true
		return s.put(n, dontwait)
	}
	// A blocking call hands over all its bytes, a non-blocking one only those that
	// the SYN carries.
	carried := int64(0)
	if c := s.conn; c.tc.Deferred() {
		if carried = n; !wait {
			carried = min(n, int64(c.tc.SYNRoom()))
		}
		carried = int64(c.tc.Write(pattern(s.wrote, int(carried))))
		c.tc.OpenDeferred(s.m.now)
		s.wrote += carried
	}
	rest, err := s.put(n-carried, dontwait)
	if err != nil {
		return nil, err
	}
	return &op{try: func() (int64, syscall.Errno, bool) {
		if s.connecting() {
			switch {
			case wait:
				return 0, 0, false
			case carried > 0:
				return carried, 0, true
			}
			return -1, syscall.EINPROGRESS, true
		}
		s.settled = s.settled || wait
		k, errno, done := rest.try()
		if errno == 0 {
			k += carried
		}
		return k, errno, done
	}}, nil
}

// fastSend takes MSG_FASTOPEN out of a call's flags. true: the write opens the
// connection. family is the address's, if the call names one.
func (s *socket) fastSend(flags, family int64, named bool) (open bool, errno syscall.Errno) {
	if flags&unix.MSG_FASTOPEN == 0 {
		return s.deferred(), 0
	}
	if named && family == unix.AF_UNSPEC {
		return false, syscall.EOPNOTSUPP
	}
	return true, 0
}
