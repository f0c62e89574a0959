package afxdp

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/bpfobject"
	"github.com/onload-go/onload/internal/lab"
)

func TestObjectIsCurrent(t *testing.T) { bpfobject.Current(t, "steer", bpf.ClangMajor) }

// The variant for drivers without multi-buffer support loads and steers.
func TestLinearProgram(t *testing.T) {
	for _, flags := range []link.XDPAttachFlags{link.XDPDriverMode, link.XDPGenericMode} {
		p := lab.NewPair(t, lab.Options{Neighbors: true})
		d := openAt(t, p.A, Config{})
		must(t, d.link.Close())
		must(t, d.objs.Close())
		must(t, p.A.Do(func() (err error) {
			must(t, d.load(&Config{MaxPorts: 16, MaxFlows: 16}, 1, attachment{}, false))
			d.link, err = link.AttachXDP(link.XDPOptions{Program: d.objs.OnloadSteer, Interface: p.A.Index, Flags: flags})
			return err
		}))
		must(t, d.objs.Xsks.Put(uint32(0), uint32(d.queues.all()[0].fd)))
		must(t, d.AddPort(udp, anyPort(7)))
		frame := datagram(v4of(p.B), v4of(p.A), 7, 7, pattern(1400))
		injector(t, p.B)(frame)
		if got, _ := receive(t, d, d.queues.all()[0], patience); !bytes.Equal(got, frame) {
			t.Errorf("received %d bytes", len(got))
		}
	}
}

func TestWhatToTry(t *testing.T) {
	hw := &linkInfo{driver: "ixgbe", known: true, features: actBasic | actRedirect | actZeroCopy, mtu: 1500, rx: 4, zcSegs: 1}
	veth := &linkInfo{driver: "veth", kind: "veth", known: true, features: actBasic | actRedirect, mtu: 1500, rx: 1, zcSegs: 1}
	e1000 := &linkInfo{driver: "e1000", known: true, mtu: 1500, rx: 1, zcSegs: 1}
	old := &linkInfo{driver: "ice", mtu: 9000, rx: 1, zcSegs: 5}
	one := []int{0}
	tests := []struct {
		name  string
		c     Config
		l     *linkInfo
		mode  Mode
		ways  int
		binds []bindMode
	}{
		{"NIC", Config{}, hw, ModeNative, 4, []bindMode{{true, true}, {true, false}, {false, true}, {false, false}}},
		{"NIC, copy", Config{ZeroCopy: ZeroCopyOff}, hw, ModeNative, 4, []bindMode{{false, true}, {false, false}}},
		{"NIC, zero-copy only", Config{ZeroCopy: ZeroCopyRequire}, hw, ModeNative, 2, []bindMode{{true, true}, {true, false}}},
		{"veth", Config{}, veth, ModeGeneric, 2, []bindMode{{false, true}, {false, false}}},
		{"veth, native", Config{Mode: ModeNative}, veth, ModeNative, 2, []bindMode{{false, true}, {false, false}}},
		{"no XDP", Config{}, e1000, ModeGeneric, 2, []bindMode{{false, true}, {false, false}}},
		{"old kernel, jumbo", Config{}, old, ModeNative, 4, []bindMode{{true, true}, {false, true}, {false, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.FrameSize, tt.c.Queues = 4096, one
			as := attachments(&tt.c, tt.l)
			if as[0].mode != tt.mode || !as[0].frags || len(as) != tt.ways {
				t.Errorf("attachments %+v", as)
			}
			if got := bindModes(&tt.c, tt.l, as[0].mode == ModeNative); !slices.Equal(got, tt.binds) {
				t.Errorf("binds %v, want %v", got, tt.binds)
			}
		})
	}
	gve := &linkInfo{driver: "gve", known: true, features: actBasic | actRedirect | actZeroCopy, mtu: 3000, rx: 1, zcSegs: 1}
	for name, tt := range map[string]struct {
		c    Config
		l    *linkInfo
		want string
	}{
		"any size": {Config{FrameSize: 4096, anySize: true}, hw, "zero-copy 4096, zero-copy without multi-buffer 4096, " +
			"zero-copy 2048, zero-copy without multi-buffer 2048, copy 4096, copy without multi-buffer 4096, "},
		"large MTU": {Config{FrameSize: 4096, anySize: true}, gve, "zero-copy 4096, zero-copy without multi-buffer 4096, " +
			"zero-copy 2048, copy 4096, copy without multi-buffer 4096, "},
		"size": {Config{FrameSize: 2048}, gve, "zero-copy 2048, copy 2048, copy without multi-buffer 2048, "},
		"copy": {Config{FrameSize: 4096, anySize: true, ZeroCopy: ZeroCopyOff}, hw, "copy 4096, copy without multi-buffer 4096, "},
		"veth": {Config{FrameSize: 4096, anySize: true}, veth, "copy 4096, copy without multi-buffer 4096, "},
	} {
		got := ""
		for _, a := range attempts(&tt.c, tt.l, true) {
			got += fmt.Sprintf("%v %d, ", a.bindMode, a.frameSize)
		}
		if got != tt.want {
			t.Errorf("%s: %s; want %s", name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		l    *linkInfo
		m    bindMode
		want int
	}{
		{hw, bindMode{false, true}, 18}, {hw, bindMode{true, true}, 1}, {old, bindMode{true, true}, 5},
		{hw, bindMode{false, false}, 1}, {&linkInfo{driver: "virtio_net"}, bindMode{false, true}, 17},
	} {
		if n := maxFrags(tt.l, tt.m); n != tt.want {
			t.Errorf("%s, %v: %d frags, want %d", tt.l.driver, tt.m, n, tt.want)
		}
	}
}
