// Package bpfobject has a test of committed BPF objects.
package bpfobject

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/onload-go/onload/internal/lab"
)

// Current tests that the objects bpf/NAME_bpfel.o and bpf/NAME_bpfeb.o are those
// that bpf/NAME.c compiles to, with the flags of bpf/bpf.go. clang is the major
// version that they were made by. Another one may choose other instructions: then
// the result must load, at least.
func Current(t *testing.T, name, clang string) {
	compiler, err := exec.LookPath("clang")
	if err != nil {
		t.Log("no clang: not compared")
		return
	}
	version, err := exec.Command(compiler, "--version").Output()
	must(t, err)
	m := regexp.MustCompile(`version (\d+)`).FindSubmatch(version)
	if m == nil {
		t.Fatalf("clang --version: %s", version)
	}
	same := string(m[1]) == clang

	src, err := os.ReadFile("bpf/bpf.go")
	must(t, err)
	_, cflags, ok := strings.Cut(string(src), name+".c -- ")
	if !ok {
		t.Fatal("no compiler flags in bpf.go")
	}
	cflags, _, _ = strings.Cut(cflags, "\n")
	for _, target := range []string{"bpfel", "bpfeb"} {
		out := filepath.Join(t.TempDir(), name+".o")
		args := append(strings.Fields(cflags), "-target", target, "-c", "bpf/"+name+".c", "-o", out)
		if b, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
			t.Fatalf("clang: %v\n%s", err, b)
		}
		built, err := ebpf.LoadCollectionSpec(out)
		must(t, err)
		if same {
			committed, err := ebpf.LoadCollectionSpec("bpf/" + name + "_" + target + ".o")
			must(t, err)
			compare(t, target, committed, built)
		}
		if native := binary.NativeEndian.Uint16([]byte{1, 0}) == 1; native == (target == "bpfel") {
			lab.NeedRoot(t)
			tracing(t, built)
			c, err := ebpf.NewCollection(built)
			must(t, err)
			c.Close()
		}
	}
}

// tracing loads the programs of a collection that are for functions of the kernel's, and
// takes them out. Some kernels let nobody have such programs.
func tracing(t *testing.T, c *ebpf.CollectionSpec) {
	for name, spec := range c.Programs {
		if spec.Type != ebpf.Tracing {
			continue
		}
		delete(c.Programs, name)
		p, err := ebpf.NewProgram(spec)
		if errors.Is(err, os.ErrPermission) {
			t.Logf("%s: not loaded, this kernel refuses all programs for its functions: %v", name, err)
			continue
		}
		must(t, err)
		p.Close()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
