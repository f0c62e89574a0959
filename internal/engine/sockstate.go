package engine

import (
	"encoding/binary"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// applies reports whether a socket of the family and type may have the option.
// Options that do not apply are not read.
func (x *sockopt) applies(family, typ int) bool {
	switch x.level {
	case unix.IPPROTO_TCP:
		return typ == unix.SOCK_STREAM
	case unix.IPPROTO_UDP:
		return typ == unix.SOCK_DGRAM
	case unix.IPPROTO_IPV6:
		return family == unix.AF_INET6
	}
	return true
}

// sockValue is a value returned by getsockopt, empty if that failed.
type sockValue string

func (v sockValue) int() int {
	if len(v) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32([]byte(v))))
}

func (v sockValue) uint64() uint64 {
	if len(v) < 8 {
		return uint64(uint32(v.int()))
	}
	return binary.NativeEndian.Uint64([]byte(v))
}

func (v sockValue) duration(unit time.Duration) time.Duration { return time.Duration(v.int()) * unit }

// sockState is the state of a socket's Options, as listed.
type sockState struct {
	typ    int // of the socket: unix.SOCK_STREAM or SOCK_DGRAM
	list   []sockopt
	values []sockValue
}

func (s *sockState) get(level, opt int) sockValue {
	for i := range s.values {
		if x := &s.list[i]; x.level == level && x.opt == opt {
			return s.values[i]
		}
	}
	return ""
}

// sockKind names sockets that have the same defaults.
type sockKind struct{ family, typ, proto int }

func kindOf(fd int) (k sockKind) {
	k.family, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	k.typ, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	k.proto, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return k
}

// stateOf reads the options of fd.
func stateOf(fd int, k sockKind) *sockState {
	s := &sockState{k.typ, sockopts, make([]sockValue, len(sockopts))}
	for i := range sockopts {
		if x := &sockopts[i]; x.applies(k.family, k.typ) {
			s.values[i] = x.read(fd)
		}
	}
	return s
}

// freshStates remembers the states of new sockets for freshFor. Dialers with hooks
// need them for every connection, but sysctls may change them.
type freshStates struct {
	mu sync.Mutex
	m  map[sockKind]freshState
}

type freshState struct {
	*sockState
	at time.Time
}

const freshFor = time.Second

// freshState returns the state of a new socket of that kind. fd is one, or -1 if
// the caller has none.
func (e *Engine) freshState(fd int, k sockKind) (*sockState, error) {
	f := &e.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok := f.m[k]; ok && time.Since(have.at) < freshFor {
		return have.sockState, nil
	}
	if fd < 0 {
		file, err := e.freshSocket(k)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		fd = int(file.Fd())
	}
	if f.m == nil {
		f.m = map[sockKind]freshState{}
	}
	s := stateOf(fd, k)
	f.m[k] = freshState{s, time.Now()}
	return s, nil
}

// read returns the option of fd. Package unix reads such values as strings of
// C's, which end at a zero.
func (x *sockopt) read(fd int) sockValue {
	var b [64]byte
	n := uint32(len(b))
	if x.opt == unix.SO_GET_FILTER && x.level == unix.SOL_SOCKET {
		n = 0 // the kernel counts instructions: with no room it returns how many there are
	}
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(x.level), uintptr(x.opt),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	switch {
	case x.opt == unix.SO_GET_FILTER && x.level == unix.SOL_SOCKET:
		// There is a filter, or a value of another kind.
		if n > 0 || errno == unix.EACCES {
			return "filter"
		}
		return ""
	case errno != 0:
		return ""
	}
	return sockValue(b[:min(n, uint32(len(b)))])
}

// changes notes in o the options that differ between s and the later state t.
func (s *sockState) changes(t *sockState, o *Options) {
	for i := range sockopts {
		x := &sockopts[i]
		switch v := t.values[i]; {
		case v == s.values[i]:
		case x.follow != nil:
			x.follow(o, v, t)
		default:
			o.leave(x.name)
		}
	}
	if o.joined {
		o.Recv |= RecvJoined
	}
}
