//go:build onload_loop

package engine

import (
	"net/netip"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/internal/stack"
)

// loopLink is the link that leads back to this host.
const loopLink = 1 << 20

// loopNetwork has the loopback addresses behind a link; all others are the kernel's.
type loopNetwork struct{ *control.Static }

func (n loopNetwork) Route(f control.Flow) (control.Route, error) {
	if !f.Dst.IsLoopback() || f.Src.IsValid() && !f.Src.IsLoopback() {
		return control.Route{Local: true}, nil
	}
	r := control.Route{Link: loopLink, Src: f.Src, NextHop: f.Dst, MTU: loopMTU}
	switch {
	case f.Src.IsValid():
	case f.Dst.Is4():
		r.Src = f.Dst // 127.0.0.0/8 answers itself
	default:
		r.Src = netip.IPv6Loopback()
	}
	return r, nil
}

func (n loopNetwork) Local(a netip.Addr) (int, bool) { return loopLink, a.IsLoopback() }

func (n loopNetwork) Accepts(int, control.Flow) control.Verdict { return control.Accepted }

func (n loopNetwork) Neighbor(int, netip.Addr) ([6]byte, bool) { return memoryMAC(0), true }

// loopMTU is larger than any test's datagram but for those in fragments.
const loopMTU = 1500

// UseLoop makes the process's own engine one whose only link leads back to this host.
// It is for the standard library's own tests, which talk to loopback addresses.
func UseLoop() error {
	c, err := ConfigFromEnv()
	if err != nil {
		return err
	}
	dev, err := sim.NewLoop(sim.Config{Name: "loop", MTU: loopMTU, TakeAll: true, Frames: 1 << 16}, sim.LinkConfig{})
	if err != nil {
		return err
	}
	e := newEngine(c)
	e.rest = true
	e.net = loopNetwork{control.NewStatic(control.Link{
		Index: loopLink, Name: "loop", MAC: memoryMAC(0), MTU: loopMTU, Up: true, Carrier: true, Kind: "sim", Driver: "sim",
		Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")},
	})}
	if e.reserver, err = control.NewKernelPorts(netns.Handle{}); err != nil {
		return err
	}
	sc := e.stackConfig()
	sc.Over(loopLink, dev)
	team, err := stack.NewTeam(sc, 1)
	if err != nil {
		return err
	}
	e.ifs = []*Interface{{Name: "loop", Index: loopLink, Stacks: team, Device: dev, Kernel: true}}
	defaultEngine.Lock()
	defer defaultEngine.Unlock()
	defaultEngine.engine = e
	return nil
}
