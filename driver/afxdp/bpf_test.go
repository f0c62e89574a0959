package afxdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/lab"
)

// The committed objects are what the source compiles to. Another clang may
// choose other instructions: then the result must load, at least.
func TestObjectIsCurrent(t *testing.T) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Log("no clang: not compared")
		return
	}
	version, err := exec.Command(clang, "--version").Output()
	must(t, err)
	m := regexp.MustCompile(`version (\d+)`).FindSubmatch(version)
	if m == nil {
		t.Fatalf("clang --version: %s", version)
	}
	same := string(m[1]) == bpf.ClangMajor

	src, err := os.ReadFile("bpf/bpf.go")
	must(t, err)
	_, cflags, ok := strings.Cut(string(src), "steer.c -- ")
	if !ok {
		t.Fatal("no compiler flags in bpf.go")
	}
	cflags, _, _ = strings.Cut(cflags, "\n")
	for _, target := range []string{"bpfel", "bpfeb"} {
		out := filepath.Join(t.TempDir(), "steer.o")
		args := append(strings.Fields(cflags), "-target", target, "-c", "bpf/steer.c", "-o", out)
		if b, err := exec.Command(clang, args...).CombinedOutput(); err != nil {
			t.Fatalf("clang: %v\n%s", err, b)
		}
		built, err := ebpf.LoadCollectionSpec(out)
		must(t, err)
		if same {
			committed, err := ebpf.LoadCollectionSpec("bpf/steer_" + target + ".o")
			must(t, err)
			compare(t, target, committed, built)
		}
		if native := binary.NativeEndian.Uint16([]byte{1, 0}) == 1; native == (target == "bpfel") {
			lab.NeedRoot(t)
			c, err := ebpf.NewCollection(built)
			must(t, err)
			c.Close()
		}
	}
}

func compare(t *testing.T, target string, a, b *ebpf.CollectionSpec) {
	t.Helper()
	if x, y := slices.Sorted(maps.Keys(a.Maps)), slices.Sorted(maps.Keys(b.Maps)); !slices.Equal(x, y) {
		t.Errorf("%s: maps %v, want %v: run go generate", target, x, y)
		return
	}
	for name, x := range a.Maps {
		y := b.Maps[name]
		if x.Type != y.Type || x.KeySize != y.KeySize || x.ValueSize != y.ValueSize || x.MaxEntries != y.MaxEntries || x.Flags != y.Flags {
			t.Errorf("%s: map %s is %v, source says %v: run go generate", target, name, x, y)
		}
	}
	if x, y := slices.Sorted(maps.Keys(a.Programs)), slices.Sorted(maps.Keys(b.Programs)); !slices.Equal(x, y) {
		t.Errorf("%s: programs %v, want %v: run go generate", target, x, y)
		return
	}
	for name, x := range a.Programs {
		y := b.Programs[name]
		if x.Type != y.Type || x.Flags != y.Flags || x.License != y.License || !bytes.Equal(code(t, x), code(t, y)) {
			t.Errorf("%s: program %s differs from its source: run go generate", target, name)
		}
	}
}

// code is the instructions and what they refer to.
func code(t *testing.T, p *ebpf.ProgramSpec) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, in := range p.Instructions {
		ref := in.Reference()
		b.WriteString(in.Symbol() + ":" + ref + ":")
		// Not the source lines, which are metadata.
		must(t, binary.Write(&b, binary.LittleEndian, []int64{int64(in.OpCode), int64(in.Dst), int64(in.Src), int64(in.Offset), in.Constant}))
	}
	return b.Bytes()
}

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
