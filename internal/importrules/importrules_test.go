// Package importrules holds no code: its test enforces who may import whom
// among our packages (ARCHITECTURE.md, section 1).
package importrules

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

const module = "github.com/onload-go/onload"

// rule says which packages of ours the packages of a folder may import.
type rule struct {
	folder string // and all below it
	may    []string
}

// rules: the longest matching folder counts. An entry of may that ends in
// /... takes the folder and all below.
var rules = []rule{
	{"ring", nil},
	{"ip", []string{"ring"}},
	{"tcp", []string{"ip", "ring"}},
	{"udp", []string{"ip", "ring"}},
	{"driver", []string{"driver", "ring"}},
	{"driver/capture", []string{"driver", "internal/record/...", "ring"}},
	{"internal/record", []string{"internal/record", "driver", "ring"}},
	{"driver/steer", []string{"driver", "ip"}},
	{"driver/exception", []string{"driver", "driver/steer", "ip", "ring"}},               // it tells the kernel of checksums and segments
	{"driver/sim", []string{"driver", "driver/steer", "ip", "ring", "internal/outside"}}, // a device that computes checksums and segments
	{"driver/drivertest", []string{"driver", "ip", "ring", "internal/allocs", "internal/need"}},
	{"driver/afxdp", []string{"driver", "driver/afxdp/...", "ring"}},
	{"driver/vfio", []string{"driver", "driver/steer", "driver/vfio/...", "ring"}},
	{"driver/vfio/nic", []string{"driver", "driver/steer", "driver/vfio/...", "ip", "ring"}}, // headers of packets to segment
	{"driver/vfio/nic/nictest", []string{"driver", "driver/drivertest", "driver/vfio/nic", "internal/need", "internal/testlong", "internal/vmrun/monitor", "ring"}},
	{"internal/netns", nil},
	{"internal/similar", nil},
	{"internal/event", nil},
	{"internal/guides", nil}, // tests only
	{"internal/site", []string{"internal/site"}},
	{"internal/outside", nil},
	{"internal/pcapfilter", nil},
	{"internal/doctor", []string{"internal/broker/wire", "internal/cgroup", "internal/engine", "driver/afxdp", "driver/afxdp/affinity", "internal/lab"}},
	{"internal/dropin", nil}, // what it reads and writes are the users' programs
	{"internal/cgroup", nil},
	{"internal/memory", []string{"internal/cgroup"}},
	{"internal/processors", []string{"internal/cgroup"}},
	{"internal/importrules", nil},
	{"internal/interop", nil},   // tests only
	{"internal/routediff", nil}, // tests only
	{"internal/docs", nil},      // tests only
	{"internal/stackuse", nil},
	{"internal/testlong", nil},
	{"internal/allocs", nil},                         // tests only
	{"internal/bpfobject", []string{"internal/lab"}}, // tests only
	{"internal/packetdrill", []string{"internal/packetdrill", "internal/stack", "tcp", "udp", "ip", "ring", "driver", "driver/sim"}},
	{"internal/need", nil}, // tests only
	{"internal/vmrun", []string{"internal/need", "internal/testlong", "internal/vmrun/..."}}, // tests only
	{"internal/nic", []string{"driver/afxdp", "driver/vfio"}},
	{"internal/lab", []string{"internal/need", "internal/cgroup", "internal/netns"}},
	{"internal/control", []string{"ip", "internal/netns", "internal/outside"}},
	{"internal/neigh", []string{"ip"}},
	{"internal/broker/nicshare", []string{"internal/broker/bpf", "internal/netns", "driver/afxdp/..."}},
	{"internal/broker/bpf", nil},
	{"internal/inlet", []string{"ip", "internal/inlet/bpf", "internal/netns"}},
	{"internal/reinject", nil},
	{"internal/repair", []string{"internal/reinject", "tcp", "ip"}},
	{"internal/inspect", []string{"internal/outside"}},
	{"internal/inspect/report", nil},
	{"internal/inspect/ask", []string{"internal/inspect"}},
	{"internal/operate", []string{"internal/inspect", "internal/inspect/...", "net"}},
	{"internal/flowtable", nil},
	{"internal/guardian", []string{"internal/flowtable", "tcp", "ip"}},
	{"internal/stack", []string{"internal/control", "internal/flowtable", "internal/outside", "internal/processors", "tcp", "udp", "ip", "ring", "driver"}},
	{"internal/engine", []string{"internal/event", "internal/record", "internal/broker/client", "internal/broker/wire", "internal/stack", "internal/flowtable", "internal/guardian", "internal/control", "internal/inlet", "internal/inspect", "internal/inspect/report", "internal/neigh", "internal/reinject", "internal/repair", "internal/memory", "internal/netns", "internal/outside", "internal/similar", "ring", "tcp", "udp", "ip", "driver/..."}},
	{"internal/broker", []string{"internal/broker/claim", "internal/broker/nicshare", "internal/broker/policy", "internal/broker/wire", "internal/flowtable", "internal/guardian", "ip"}},
	{"internal/broker/wire", nil},
	{"internal/broker/claim", nil},
	{"internal/broker/policy", nil},
	{"internal/broker/client", []string{"internal/event", "internal/broker/claim", "internal/broker/wire", "driver", "driver/afxdp", "ring"}},
	{"internal/overlay", nil},
	{"internal/stdtest", []string{"internal/overlay"}},
	{"netglue", []string{"internal/engine", "internal/outside", "internal/stack", "tcp", "udp", "ip"}},
	// net's types are net's business: who carries a connection is the engine's.
	{"net", []string{"internal/engine", "internal/event", "internal/outside", "internal/stack", "tcp", "udp", "ip", "driver", "driver/sim"}},
	{"net/onloadtls", []string{"net"}},
	{"metrics", []string{"net", "driver"}},
	{"net/onloadslog", nil},
	{"net/onloadhttp", []string{"net"}},
	{"cmd", []string{"cmd/...", "net", "internal/..."}},
	{"examples", []string{"examples/...", "net", "internal/lab"}},
	// The lowest rung of a comparison is the driver alone.
	{"bench", []string{"bench/...", "net", "internal/lab", "driver/...", "ip", "ring"}},
}

// importGraph maps our packages, by folder, to those of ours that they
// import.
type importGraph map[string][]string

func within(folder, pkg string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

func find(pkg string) (best rule, ok bool) {
	for _, r := range rules {
		if within(r.folder, pkg) && (!ok || len(r.folder) > len(best.folder)) {
			best, ok = r, true
		}
	}
	return best, ok
}

// check returns the faults of a graph.
func check(g importGraph) (wrong []string) {
	for pkg, imports := range g {
		r, ok := find(pkg)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: there is no rule for this folder; add one here, and a row to ARCHITECTURE.md, section 1", pkg))
			continue
		}
		for _, imp := range imports {
			if !slices.ContainsFunc(r.may, func(may string) bool {
				if f, all := strings.CutSuffix(may, "/..."); all {
					return within(f, imp)
				}
				return imp == may
			}) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s; it may import %v", pkg, imp, r.may))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// load reads the imports of every non-test file below root, whatever its
// build tags and whichever nested module it is in.
func load(root string) (importGraph, error) {
	g := importGraph{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if _, ok := g[pkg]; !ok {
			g[pkg] = nil
		}
		for _, i := range f.Imports {
			imp, ours := strings.CutPrefix(strings.Trim(i.Path.Value, "\"`"), module+"/")
			if ours && !slices.Contains(g[pkg], imp) {
				g[pkg] = append(g[pkg], path.Clean(imp))
			}
		}
		return nil
	})
	return g, err
}

func TestImports(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !strings.Contains(string(mod), "module "+module+"\n") {
		t.Fatalf("%s is not the module's root: %v", root, err)
	}
	g, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(g) < 5 || !slices.Contains(g["driver"], "ring") {
		t.Fatalf("the imports were not read: %v", g)
	}
	for _, w := range check(g) {
		t.Error(w)
	}
}

// TestCheck tests the checker: one import each, and whether it is a breach.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		ok       bool
	}{
		{"tcp", "ip", true},
		{"tcp", "ring", true},
		{"tcp", "driver", false},
		{"tcp", "net", false},
		{"tcp", "internal/stack", false},
		{"tcp/cubic", "driver", false},
		{"udp", "tcp", false},
		{"ip", "ring", true},
		{"ip", "udp", false},
		{"ring", "ip", false},
		{"ring", "internal/netns", false},
		{"driver", "ip", false},
		{"driver/sim", "driver", true},
		{"driver/sim", "driver/afxdp", false},
		{"driver/sim", "internal/stack", false},
		{"driver/afxdp", "driver/afxdp/bpf", true},
		{"driver/afxdp/bpf", "ring", true},
		{"driver/afxdp", "internal/lab", false},
		{"internal/stack", "tcp", true},
		{"internal/stack", "driver", true},
		{"internal/stack", "driver/afxdp", false},
		{"internal/stack", "net", false},
		{"internal/control", "ip", true},
		{"internal/control", "internal/stack", false},
		{"internal/lab", "internal/netns", true},
		{"internal/lab", "net", false},
		{"internal/lab", "internal/control", false},
		{"internal/netns", "internal/lab", false},
		{"internal/processors", "internal/netns", false},
		{"internal/engine", "internal/stack", true},
		{"internal/engine", "driver/afxdp", true},
		{"internal/engine", "net", false},
		{"internal/stack", "internal/engine", false},
		{"net", "internal/engine", true},
		{"net", "internal/stack", true},
		{"net", "internal/control", false},
		{"net", "driver/afxdp", false},
		{"net", "internal/lab", false},
		{"network", "ring", false},
		{"cmd/onload", "net", true},
		{"cmd/onload", "driver", false},
		{"examples/echo", "internal/stack", false},
		{"examples/echo", "internal/lab", true},
		{"bench/rung", "net", true},
		{"bench/rung", "driver/afxdp", true},
		{"bench/rung", "internal/stack", false},
	} {
		wrong := check(importGraph{"ring": nil, c.pkg: {c.imp}})
		if (len(wrong) == 0) != c.ok {
			t.Errorf("%s imports %s: %v", c.pkg, c.imp, wrong)
		}
	}
	if len(check(importGraph{"new": nil})) != 1 {
		t.Error("a folder without a rule passes")
	}
}

// A breach in a file on disk is found, also behind a build tag and under
// another name; tests and testdata are free.
func TestLoad(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("tcp/a.go", "package tcp\nimport \"fmt\"\nvar _ = fmt.Sprint")
	write("tcp/b.go", "//go:build windows\n\npackage tcp\nimport d \""+module+"/driver\"\nvar _ d.Queue")
	write("tcp/c_test.go", "package tcp\nimport _ \""+module+"/internal/stack\"")
	write("tcp/testdata/x.go", "package x\nimport _ \""+module+"/net\"")
	write("ring/r.go", "package ring\nimport _ \""+module+"x/driver\"")
	write("examples/go.mod", "module examples")
	write("examples/e/e.go", "package main\nimport _ `"+module+"/tcp`")
	g, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	wrong := check(g)
	if len(g) != 3 || len(wrong) != 2 || !strings.HasPrefix(wrong[0], "examples/e imports tcp") ||
		!strings.HasPrefix(wrong[1], "tcp imports driver") {
		t.Errorf("%v: %q", g, wrong)
	}
	write("udp/u.go", "package udp {")
	if _, err := load(root); err == nil {
		t.Error("a file that does not parse passes")
	}
}
