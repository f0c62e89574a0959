package stack

import (
	"net/netip"
	"slices"

	"github.com/onload-go/onload/ip"
)

// exception is a flow of a port of ours that is the kernel's: its connection was handed
// over. Nobody says when that ends. So the oldest exceptions are given up when there are
// many, and the kernel gets such packets back one by one (returnTwins, returnOthers), as it
// does where a device takes no exceptions.
type exception struct {
	port          *port
	local, remote netip.AddrPort
}

// exceptMost bounds the flows. Each takes an entry of the device's table.
const exceptMost = 4096

// except leaves the packets of a flow of p to the kernel. false: the device does not
// do that for all such flows, so stray segments have to be given back.
func (t *portTable) except(p *port, local, remote netip.AddrPort) (all bool) {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	if t.device.AddFlow(ip.ProtoTCP, local, remote, false) != nil {
		return false
	}
	x := exception{p, local, remote}
	var old []exception
	t.mu.Lock()
	if p.gone { // meanwhile, so nothing of it is ours
		old = []exception{x}
	} else {
		t.exceptions = append(t.exceptions, x)
	}
	n := max(len(t.exceptions)-exceptMost, 0)
	old = append(old, t.exceptions[:n]...)
	t.exceptions = slices.Delete(t.exceptions, 0, n)
	t.mu.Unlock()
	t.removeExceptions(old)
	return n == 0
}

// excepted reports whether a flow was left to the kernel, which may have the connection
// still.
func (t *portTable) excepted(local, remote netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.exceptions, func(x exception) bool { return x.remote == remote && x.local == local })
}

// unexcept takes a flow back from the kernel.
func (t *portTable) unexcept(local, remote netip.AddrPort) {
	t.endExceptions(func(x exception) bool { return x.local == local && x.remote == remote })
}

// endExceptions takes those back that which says. A port that is steered no longer
// needs none.
func (t *portTable) endExceptions(which func(exception) bool) {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	var old []exception
	t.mu.Lock()
	t.exceptions = slices.DeleteFunc(t.exceptions, func(x exception) bool {
		if which(x) {
			old = append(old, x)
			return true
		}
		return false
	})
	t.mu.Unlock()
	t.removeExceptions(old)
}

func (t *portTable) removeExceptions(xs []exception) {
	for _, x := range xs {
		_ = t.device.RemoveFlow(ip.ProtoTCP, x.local, x.remote) // else it went with the device
	}
}
