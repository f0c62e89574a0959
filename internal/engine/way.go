package engine

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// Family is the IP version that a caller asks for.
type Family uint8

// Families.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// Way is the answer to "who carries packets to this destination?"
type Way struct {
	// Stack carries them, by Route; nil: the kernel does.
	Stack *stack.Stack
	Route stack.Route
	// Why is the reason for the kernel; empty where Stack is set.
	Why string
	// Kernel says that the kernel could carry them too: a kernel stands behind
	// the interface.
	Kernel bool
	// Group says that the destination is a multicast group: the carrier depends on
	// socket options (GroupSend).
	Group bool
}

// Traffic has what the kernel's rules may ask for besides addresses and ports.
type Traffic struct {
	Proto uint8      // ip.ProtoTCP or ip.ProtoUDP
	IP    *IPOptions // of a Control hook; nil: none
	// Unbound says that the packets are datagrams of a socket that is not
	// connected.
	Unbound bool
	Groups  GroupSend
}

// IPOptions are those that a Control hook has set.
type IPOptions = stack.IPOptions

// tos is that of packets to dst.
func (t *Traffic) tos(dst netip.Addr) uint8 {
	switch {
	case t.IP == nil:
		return 0
	case dst.Is4():
		return t.IP.TOS
	}
	return t.IP.TrafficClass
}

// Way chooses the carrier of a connection, or of datagrams, from local, whose
// address and port may be unset, to remote. f is the family that the caller named.
// It leaves invalid addresses to the kernel, whose error says what is wrong.
//
// Errors are those of connect(2), of destinations that no kernel stands behind:
// ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EINVAL.
func (e *Engine) Way(f Family, t Traffic, local, remote netip.AddrPort) (Way, error) {
	w, err := e.decide(f, t, local, remote)
	e.notePath(w.Why, &w, "remote", remote)
	switch {
	case w.Stack != nil:
		return w, nil
	case w.Kernel:
		return w, nil // the kernel finds the same as err, in its own words
	case err == nil:
		err = syscall.ENETUNREACH
	}
	return w, err
}

// Invalid is Way for a caller's address that no netip.AddrPort holds.
func (e *Engine) Invalid() (Way, error) {
	if !e.rest {
		return Way{}, syscall.EINVAL
	}
	return e.kernels(invalidAddresses), nil
}

const (
	invalidAddresses = "the addresses are invalid"
	thisHost         = "the destination is this host"
)

// kernels returns the Way of traffic that belongs to no interface of the engine.
func (e *Engine) kernels(why string) Way { return Way{Why: why, Kernel: e.rest} }

func (e *Engine) decide(f Family, t Traffic, local, remote netip.AddrPort) (Way, error) {
	dst, src := remote.Addr(), local.Addr()
	mixed := f == IPv4 && src.Is6() // also ::, which a network of IPv4 refuses
	if src.IsUnspecified() {
		src = netip.Addr{}
	}
	switch {
	case e.rest && mixed:
		return e.kernels(invalidAddresses), nil
	case !dst.IsValid() || dst.IsUnspecified():
		return e.kernels(thisHost), nil
	case e.rest && (remote.Port() == 0 || src.IsValid() && src.Is4() != dst.Is4() || f == IPv4 && !dst.Is4() || f == IPv6 && dst.Is4()):
		return e.kernels(invalidAddresses), nil
	case !e.Accelerates():
		return e.kernels(e.Notice()), nil
	case dst.Zone() != "" || src.Zone() != "":
		return e.kernels(zoned), nil
	}
	if dst.IsMulticast() && !src.IsValid() && t.IP != nil {
		src = t.IP.GroupSrc(dst)
	}
	gen := e.net.Gen()
	local = e.autobind(&t, local, dst)
	flow := control.Flow{Dst: dst, Src: src, DstPort: remote.Port(), SrcPort: local.Port(), Proto: t.Proto, TOS: t.tos(dst)}
	look := control.Connected
	if t.Unbound {
		look = control.Network.Route
	}
	r, err := look(e.net, flow)
	switch {
	case err != nil:
		return e.kernels(fmt.Sprintf("no route: %v", err)), err
	case r.Local:
		return e.kernels(thisHost), nil
	case r.Multicast:
		if why := e.groupWhy(&t, dst, &r); why != "" {
			w := e.kernels(why)
			w.Group = true
			return w, nil
		}
	case r.Broadcast:
		return e.kernels("the destination is a broadcast address"), nil
	}
	i, why := e.behind(r.Link)
	w := Way{Why: why, Kernel: e.hasKernel(i)}
	if why != "" {
		return w, nil
	}
	if why := i.missing(); why != "" {
		w.Why = why // the answers might come by those queues
		return w, nil
	}
	switch {
	case !src.IsValid() && !ip.Unicast(r.Src):
		// The mirror may be behind. The kernel knows an address that has just been
		// accepted; otherwise it refuses in its own words, as always.
		w.Why = "this host has no address for the route"
		return w, syscall.EADDRNOTAVAIL
	case !src.IsValid() && i.Kernel && !t.Unbound && r.Src.Is6() && r.Src.IsLinkLocalUnicast():
		w.Why = "the route's source needs a zone"
		return w, nil
	case src.IsValid():
		// Replies arrive on the link that has src.
		from, ok := e.net.Local(src)
		if !ok {
			w.Why = "the local address is not ours"
			return w, nil
		}
		if e.anywhere(from, src) {
			break
		}
		if j, why := e.behind(from); why != "" {
			w.Why = why
			return w, nil
		} else if j.first() != i.first() {
			w.Why = "the local address is of another interface than the route, with a stack of its own"
			return w, nil
		}
	}
	return Way{Stack: e.pick(i, &t, local, remote), Route: stack.Route{Route: r, Gen: gen, Port: local.Port()}, Kernel: w.Kernel}, nil
}

// anywhere reports whether packets to the address a of a link come by any of the
// other links. lo and dummy links bring none by themselves. No packet comes from
// elsewhere to 127.0.0.0/8 and ::1.
func (e *Engine) anywhere(link int, a netip.Addr) bool {
	l, ok := e.net.Link(link)
	return ok && !a.IsLoopback() && (l.Loopback || l.Kind == "dummy")
}

const zoned = "the address has a zone"

// behind returns the interface that carries the traffic of a link: itself, or the
// one below a VLAN. why says why it cannot; the interface may be nil then.
func (e *Engine) behind(link int) (i *Interface, why string) {
	l, ok := e.net.Link(link)
	if !ok {
		return nil, fmt.Sprintf("interface %d is unknown", link)
	}
	for _, i := range e.interfaces() {
		if i.Index == link || l.VLAN != 0 && i.Index == l.Parent {
			if err := i.err(); err != nil {
				return i, fmt.Sprintf("%s: %v", i.Name, err)
			}
			return i, ""
		}
	}
	return nil, fmt.Sprintf("interface %s is not accelerated", l.Name)
}

// hasKernel reports whether the kernel can carry the traffic of i. i is nil for
// traffic that belongs to no interface of the engine.
func (e *Engine) hasKernel(i *Interface) bool {
	if i == nil {
		return e.rest
	}
	return i.Kernel
}
