package engine_test

import (
	"math/bits"
	"net/netip"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	onload "github.com/onload-go/onload/net"
)

// TestSockoptsKernel: a hook that sets an option that only the kernel has gets
// a connection of the kernel's, and PathOf names the option.
func TestSockoptsKernel(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	index := e.Status()[0].Index
	far := map[string]string{}
	for network, addr := range map[string]netip.Addr{"tcp4": p.B.Addr4, "tcp6": p.B.Addr6} {
		l, err := p.B.Listen(network, netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		far[network], far["udp"+network[3:]] = l.Addr().String(), l.Addr().String()
	}
	special := map[string]any{ // what to set; 1 is not valid, or not enough
		"SO_BINDTODEVICE":     p.A.If,
		"SO_ATTACH_FILTER":    attachFilter,
		"SO_RCVLOWAT":         2,
		"SO_TIMESTAMPING":     unix.SOF_TIMESTAMPING_RX_HARDWARE,
		"SO_TXTIME":           "\x00\x00\x00\x00\x02\x00\x00\x00",
		"UDP_ENCAP":           unix.UDP_ENCAP_ESPINUDP,
		"UDP_SEGMENT":         1000,
		"IP_OPTIONS":          "\x01\x01\x01\x00",
		"IP_MTU_DISCOVER":     unix.IP_PMTUDISC_DO,
		"IP_UNICAST_IF":       int(bits.ReverseBytes32(uint32(index))),
		"IP_LOCAL_PORT_RANGE": 50000<<16 | 40000,
		"IPV6_UNICAST_IF":     int(bits.ReverseBytes32(uint32(index))),
		"IPV6_MTU_DISCOVER":   unix.IPV6_PMTUDISC_DO,
		"IPV6_DSTOPTS":        "\x00\x00\x01\x04\x00\x00\x00\x00",
	}
	// The whole kernel remembers that a socket had one of these.
	lasting := map[string]bool{"TCP_TX_DELAY": true, "IP_MINTTL": true, "IPV6_MINHOPCOUNT": true}
	done := map[string]bool{}
	for _, x := range engine.KernelOptions() {
		if lasting[x.Name] {
			continue
		}
		set := func(fd int) error {
			switch v := special[x.Name].(type) {
			case int:
				return unix.SetsockoptInt(fd, x.Level, x.Opt, v)
			case string:
				return unix.SetsockoptString(fd, x.Level, x.Opt, v)
			case func(fd int) error:
				return v(fd)
			}
			return unix.SetsockoptInt(fd, x.Level, x.Opt, 1)
		}
		for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
			var refused error
			d := onload.Dialer{Engine: e, Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { refused = set(int(fd)) })
			}}
			c, err := d.Dial(network, far[network])
			if err != nil {
				t.Errorf("%s %s: %v", network, x.Name, err)
				continue
			}
			c.Close()
			if path := onload.PathOf(c); refused != nil {
				continue // this kernel, or this kind of socket, has it not
			} else if path.Reason != "a Control hook set "+x.Name {
				t.Errorf("%s %s: %v", network, x.Name, path)
			}
			done[x.Name] = true
		}
	}
	for _, x := range engine.KernelOptions() {
		if !done[x.Name] {
			t.Logf("%s cannot, or may not, be set here", x.Name)
		}
	}
	if len(done) < 45 {
		t.Errorf("only %d options could be set", len(done))
	}
}

// attachFilter attaches a filter that takes all.
func attachFilter(fd int) error {
	all := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &all})
}
