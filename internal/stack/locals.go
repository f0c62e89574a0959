package stack

import (
	"net/netip"

	"github.com/onload-go/onload/internal/control"
)

// locals knows which addresses are ours, whichever link has them: they belong to
// the host. It belongs to the holder of the stack lock.
type locals struct {
	net  control.Network
	last netip.Addr // the last address that was found to be ours
}

// has reports whether a is one of the host's addresses, or one that the host
// answers for.
func (l *locals) has(a netip.Addr) bool {
	if a == l.last {
		return true
	}
	if _, ok := l.net.Local(a); !ok {
		return false
	}
	l.last = a
	return true
}

// changed forgets whatever a change in the kernel may have made wrong.
func (l *locals) changed() { l.last = netip.Addr{} }
