package engine

import (
	"fmt"
	"io"
	"net/netip"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// Shards are the stacks on which a bound socket receives.
type Shards struct {
	Stacks []*stack.Stack
	Addr   netip.Addr // to bind there; unset: all of both families
	Why    string     // there are none; empty where there are
	Later  bool       // there are none, but one may come: the keeper tries an interface again
	// Twin is the kernel's socket that holds the port, which the caller sets; nil: there
	// is none, or no need to show it.
	Twin syscall.Conn
	// TwinServes says that Twin may have clients already, for its segments and theirs.
	TwinServes bool
}

// twin is Twin as the stacks want it.
func (sh *Shards) twin() syscall.RawConn {
	if sh.Twin == nil {
		return nil
	}
	raw, err := sh.Twin.SyscallConn()
	if err != nil {
		return nil // it is closed
	}
	return raw
}

// Twin reports whether a socket bound to addr, which may be unset or a wildcard,
// has a kernel socket beside the stacks'. The kernel socket holds the port and gets
// all traffic that is not accelerated.
func (e *Engine) Twin(addr netip.Addr) bool {
	if e.net != nil && addr.IsValid() && !addr.IsUnspecified() {
		if link, ok := e.net.Local(addr); ok {
			i, _ := e.behind(link)
			return e.hasKernel(i)
		}
	}
	return e.rest
}

// Vacate makes room for a twin at addr, which is about to be bound. Stacks give the
// port back to the kernel if no socket uses it, and share it if its connections do.
func (e *Engine) Vacate(proto uint8, addr netip.AddrPort) {
	for _, s := range e.stacks() {
		s.Vacate(proto, addr)
		if proto == ip.ProtoTCP {
			s.Share(addr)
		}
	}
}

// Shards returns the stacks that receive for a socket of that family bound to addr,
// which may be unset or a wildcard.
func (e *Engine) Shards(f Family, addr netip.Addr) Shards {
	sh := e.shards(f, addr)
	if sh.Why != "" {
		if !addr.IsValid() {
			addr = netip.IPv6Unspecified()
		}
		e.notePath(sh.Why, nil, "local", netip.AddrPortFrom(addr, 0))
	}
	return sh
}

func (e *Engine) shards(f Family, addr netip.Addr) Shards {
	switch {
	case !e.Accelerates():
		return Shards{Addr: addr, Why: e.Notice()}
	case addr.IsValid() && !addr.IsUnspecified():
		if addr.Zone() != "" {
			return Shards{Addr: addr, Why: zoned}
		}
		link, ok := e.net.Local(addr)
		if !ok {
			return Shards{Addr: addr, Why: "the address is not ours"}
		}
		if e.anywhere(link, addr) {
			break
		}
		i, why := e.behind(link)
		if why != "" {
			return Shards{Addr: addr, Why: why, Later: i != nil && i.Kernel}
		}
		return Shards{Stacks: i.Stacks, Addr: addr}
	}
	// net listens on both families also when asked for 0.0.0.0, unless the
	// network names one.
	at := addr
	switch {
	case addr.IsValid() && !addr.IsUnspecified():
	case f == IPv4:
		at = netip.IPv4Unspecified()
	case f == IPv6:
		at = netip.IPv6Unspecified()
	default:
		at = netip.Addr{}
	}
	if ss := e.working(); len(ss) > 0 {
		return Shards{Stacks: ss, Addr: at}
	}
	return Shards{Addr: at, Why: e.whyNone(), Later: true}
}

// whyNone is why no interface is accelerated.
func (e *Engine) whyNone() string {
	for _, i := range e.interfaces() {
		if err := i.err(); err != nil {
			return fmt.Sprintf("%s: %v", i.Name, err)
		}
	}
	return noInterface
}

const (
	noInterface  = "no interface is configured (ONLOAD_INTERFACES)"
	askedForNone = "no interface is to be taken (ONLOAD_INTERFACES=none)"
)

// Notice logs once that no interface is configured, and returns why nothing is
// accelerated.
func (e *Engine) Notice() string {
	if e.none == noInterface {
		e.noticed.Do(func() {
			e.log.Warn("nothing is accelerated: no interface is configured; set ONLOAD_INTERFACES=auto or to names, or Config.Interfaces", event.NothingTaken.Field(), zap.String("reason", e.none))
		})
	}
	return e.none
}

// bindTries is how many ports are tried where the first shard may choose one.
const bindTries = 64

// onAll binds by open, again if the port that the first shard chose is in use on
// another stack: where no kernel has the ports each stack chooses for itself.
func onAll[T any](port uint16, open func() (T, error)) (x T, err error) {
	for range bindTries {
		if x, err = open(); err != syscall.EADDRINUSE || port != 0 {
			break
		}
	}
	return x, err
}

// departing is a shard of a listener or bound socket.
type departing interface {
	Depart()
	io.Closer
}

// closeAll closes all shards of a socket. None takes anything new when the first one
// closes, to which they forward. The error is the first shard's.
func closeAll[T departing](shards []T) error {
	for _, s := range shards {
		s.Depart()
	}
	var first error
	for i, s := range shards {
		if err := s.Close(); err != nil && i == 0 {
			first = err
		}
	}
	return first
}
