package onload_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestRawHandshakeOptions: options of the handshake, set on an open connection, are
// refused where the kernel's connection refuses them, by an error that names them. The
// others change nothing there, and neither do they here.
func TestRawHandshakeOptions(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	conns, _ := rawPairs(t, p, e, p.B.Addr6.String())
	mss := func(i int) (v int) {
		if err := raw(t, conns[i]).Control(func(fd uintptr) { v, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG, 700},
		{"TCP_SYNCNT", unix.IPPROTO_TCP, unix.TCP_SYNCNT, 3},
		{"TCP_DEFER_ACCEPT", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 3},
		{"TCP_FASTOPEN", unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 5},
		{"TCP_FASTOPEN_CONNECT", unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1},
		{"TCP_FASTOPEN_NO_COOKIE", unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1},
		{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
	} {
		var errs [2]error
		for i, c := range conns {
			var err error
			cerr := raw(t, c).Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), o.level, o.opt, o.value) })
			errs[i] = errors.Join(err, cerr)
		}
		switch kernel, ours := errs[0], errs[1]; {
		case (kernel == nil) != (ours == nil):
			t.Errorf("%s: the kernel's connection says %v, ours %v", o.name, kernel, ours)
		case ours != nil && !(errors.Is(ours, errors.ErrUnsupported) && strings.Contains(ours.Error(), o.name)):
			t.Errorf("%s: %v does not name it", o.name, ours)
		}
		if kernel, ours := mss(0), mss(1); kernel != ours || ours == 700 {
			t.Errorf("after %s the kernel's segments have %d bytes, ours %d", o.name, kernel, ours)
		}
	}
}
