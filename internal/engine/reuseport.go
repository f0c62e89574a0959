package engine

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/onload-go/onload/ip"
)

// sharedOutside is why the kernel carries a bound socket with SO_REUSEPORT.
const sharedOutside = "a Control hook set SO_REUSEPORT, and a socket that is not this engine's has the port too"

// sharers counts the engine's accelerated sockets of each group that the kernel has
// of a port (SO_REUSEPORT). The key is the beginning of their line in /proc/net.
// The stack distributes packets among them, as the kernel would.
type sharers struct {
	mu sync.Mutex
	n  map[string]int
}

// Share joins the SO_REUSEPORT group of the kernel's socket bound to a, if o has
// that option. The caller calls leave when the socket closes. If sockets outside
// of the engine share the port, o says that the kernel carries all.
func (e *Engine) Share(o *Options, proto uint8, a netip.AddrPort) (leave func()) {
	if !o.reusePort || o.Kernel != "" {
		return func() {}
	}
	file := map[uint8]string{ip.ProtoTCP: "tcp", ip.ProtoUDP: "udp"}[proto]
	if a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()); o.family6 {
		file += "6"
		a = netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	leave, ok := e.sharers.join(e, file, a)
	if !ok {
		o.Kernel = sharedOutside
	}
	return leave
}

// join counts the kernel's socket bound to a, which is listed in that file of
// /proc/net, and returns the function that undoes that. ok is false if others
// share the port: they would get no accelerated traffic.
func (s *sharers) join(e *Engine, file string, a netip.AddrPort) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := file + " " + procAddr(a)
	bound, err := e.countBound(file, procAddr(a))
	if err != nil || bound > s.n[key]+1 {
		return func() {}, false
	}
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[key]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n[key]--; s.n[key] == 0 {
			delete(s.n, key)
		}
	}), true
}

// countBound counts the sockets of the namespace that are bound to addr, and
// for TCP listen: lines of /proc/net with that address, where those that
// listen come first.
func (e *Engine) countBound(file, addr string) (n int, err error) {
	ofTCP := strings.HasPrefix(file, "tcp")
	file = "/proc/thread-self/net/" + file
	const listening = "0A"
	err = e.ns.Do(func() error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Scan() // names of the columns
		for lines.Scan() {
			col := strings.Fields(lines.Text())
			switch {
			case len(col) < 4:
				return fmt.Errorf("%s: %q", file, lines.Text())
			case ofTCP && col[3] != listening:
				return nil
			case col[1] == addr:
				n++
			}
		}
		return lines.Err()
	})
	return n, err
}

// procAddr is a as /proc/net has it: words of 32 bits as they are in memory.
func procAddr(a netip.AddrPort) string {
	var s strings.Builder
	for b := a.Addr().AsSlice(); len(b) > 0; b = b[4:] {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b))
	}
	fmt.Fprintf(&s, ":%04X", a.Port())
	return s.String()
}
