package nicshare

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/bpfobject"
	"github.com/onload-go/onload/internal/broker/bpf"
)

// A process gets what is for its port, may send from it, and the kernel keeps all else.
func TestLink(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			n := w.share(mode)
			a, b := start(t, w.A, n, LinkConfig{}), start(t, w.A, n, LinkConfig{})
			w.allow(a, udp, 7000)
			w.allow(b, udp, 7001)
			peer := observe(t, w.B)
			for _, v6 := range []bool{false, true} {
				for i, p := range []*process{a, b} {
					sent := w.out(7000+uint16(i), v6).build(t)
					p.do(order{Send: [][]byte{sent}})
					if got := peer.wait(1); len(got) != 1 || !bytes.Equal(got[0], sent) {
						t.Errorf("the peer got %x", got)
					}
					// The answer goes to the process that it is for.
					w.send(t, w.out(7000+uint16(i), v6))
					if got := p.do(order{Receive: 1}); len(got) != 1 || !carries(got[0]) {
						t.Errorf("the process got %x", got)
					}
				}
			}
			k, err := w.A.ListenPacket("udp", netip.AddrPortFrom(w.A.Addr4, 7002).String())
			must(t, err)
			defer k.Close()
			w.send(t, w.out(7002, false))
			got := make([]byte, 100)
			m, _, err := k.ReadFrom(got)
			if must(t, err); !bytes.Equal(got[:m], payload) {
				t.Errorf("the kernel got %q", got[:m])
			}
			for _, p := range []*process{a, b} {
				if got := p.do(order{Drain: true}); len(got) != 0 {
					t.Errorf("the other's: %x", got)
				}
			}
		})
	}
}

// A port has one owner, and only addresses of the interface can be had.
func TestAllow(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	a, err := n.NewLink(LinkConfig{Token: [16]byte{1}})
	must(t, err)
	b, err := n.NewLink(LinkConfig{Token: [16]byte{2}})
	must(t, err)
	own, other := Port{udp, w.A.Addr4, 1}, Port{udp, w.A.Addr4, 2}
	must(t, a.Allow(own))
	must(t, a.Allow(own)) // again
	must(t, b.Allow(Port{tcp, w.A.Addr4, 1}))
	flow := Flow{udp, netip.AddrPortFrom(w.A.Addr4, 1), netip.AddrPortFrom(w.B.Addr4, 1)}
	must(t, b.AllowFlow(flow))
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"port of another":        {b.Allow(other, own), unix.EADDRINUSE},
		"no address of ours":     {b.Allow(Port{udp, w.B.Addr4, 3}), unix.EADDRNOTAVAIL},
		"port 0":                 {b.Allow(Port{udp, w.A.Addr4, 0}), unix.EINVAL},
		"protocol":               {b.Allow(Port{1, w.A.Addr4, 3}), unix.EPROTONOSUPPORT},
		"flow of another":        {a.AllowFlow(flow), unix.EADDRINUSE},
		"half a flow":            {a.AllowFlow(Flow{Proto: udp, Local: flow.Local}), unix.EINVAL},
		"flow of another's port": {b.ExceptFlow(Flow{udp, flow.Local, netip.AddrPortFrom(w.B.Addr4, 2)}), unix.EINVAL},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	must(t, a.Allow(other)) // b, which was refused one of two, has neither
	must(t, b.Revoke(own))  // not its own
	if ps, err := a.Ports(); err != nil || len(ps) != 2 {
		t.Errorf("ports %v, %v", ps, err)
	}
	must(t, a.Close())
	must(t, b.Allow(own, other))
	if fs, err := b.Flows(); err != nil || len(fs) != 1 || fs[0] != flow {
		t.Errorf("flows %v, %v", fs, err)
	}
}

// Memory that could vanish, or is more than allowed, is refused.
func TestGrantRefused(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	l, err := n.NewLink(LinkConfig{})
	must(t, err)
	const all = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	for what, c := range map[string]struct {
		bytes, seals int
		change       func(*GrantConfig)
		want         error
	}{
		"no seal":       {frames * frameSize, 0, nil, unix.EPERM},
		"shrinks":       {frames * frameSize, unix.F_SEAL_GROW, nil, unix.EPERM},
		"grows":         {frames * frameSize, unix.F_SEAL_SHRINK, nil, unix.EPERM},
		"not written":   {frames * frameSize, all | unix.F_SEAL_FUTURE_WRITE, nil, unix.EPERM},
		"empty":         {0, all, nil, unix.EINVAL},
		"half a frame":  {frames*frameSize + 1, all, nil, unix.EINVAL},
		"too much":      {(frames + 1) * frameSize, all, nil, unix.EINVAL},
		"frame size":    {frames * frameSize, all, func(c *GrantConfig) { c.FrameSize = 1024 }, unix.EINVAL},
		"ring size":     {frames * frameSize, all, func(c *GrantConfig) { c.RxRing = 65 }, unix.EINVAL},
		"large ring":    {frames * frameSize, all, func(c *GrantConfig) { c.TxRing = 1 << 20 }, unix.EINVAL},
		"no descriptor": {frames * frameSize, all, func(c *GrantConfig) { c.UMEM = -1 }, unix.EPERM},
		"not a memfd":   {frames * frameSize, all, func(c *GrantConfig) { c.UMEM = 0 }, unix.EPERM},
	} {
		memfd, err := sealed(c.bytes, c.seals)
		must(t, err)
		config := grantConfig(memfd)
		if c.change != nil {
			c.change(&config)
		}
		if g, err := l.Grant(config); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
			_ = g.Close()
		}
		must(t, unix.Close(memfd))
	}
}

func TestObjectIsCurrent(t *testing.T) {
	t.Chdir("..")
	bpfobject.Current(t, "filter", bpf.ClangMajor)
}
