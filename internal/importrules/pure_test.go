package importrules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure lists the folders whose packages are functions of their arguments: they
// use the standard library only, do no I/O, start no goroutine and read no
// clock. .golangci.yml says the same to editors.
var pure = []string{"tcp", "udp", "ip"}

// pureMay lists what they may import from elsewhere.
var pureMay = map[string][]string{
	"ip": {"golang.org/x/sys/cpu"}, // which instructions the processor has; the standard library has a copy that it keeps to itself
}

// refused lists packages of the standard library that do I/O, each with all
// below it.
var refused = []string{"net", "os", "io/ioutil", "log", "database", "plugin", "testing"}

// clock lists functions of package time that read a clock or start one.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// impure returns what makes a file of a pure package impure.
func impure(folder string, f *ast.File) (wrong []string) {
	times := "" // package time's name in this file
	for _, i := range f.Imports {
		imp, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return []string{err.Error()}
		}
		first, _, _ := strings.Cut(imp, "/")
		switch {
		case imp == module || strings.HasPrefix(imp, module+"/"), slices.Contains(pureMay[folder], imp): // check has our own
		case strings.Contains(first, "."):
			wrong = append(wrong, "imports "+imp+", which is not of the standard library")
		case imp != "net/netip" && slices.ContainsFunc(refused, func(r string) bool { return within(r, imp) }):
			wrong = append(wrong, "imports "+imp+", which does I/O")
		case imp == "time":
			times = "time"
			if i.Name != nil {
				times = i.Name.Name
			}
			if times == "." {
				wrong = append(wrong, "imports time as .")
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			wrong = append(wrong, "starts a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && times != "" && x.Name == times && slices.Contains(clock, n.Sel.Name) {
				wrong = append(wrong, "uses time."+n.Sel.Name)
			}
		}
		return true
	})
	return wrong
}

func TestPure(t *testing.T) {
	for _, folder := range pure {
		files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files: %v", folder, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range impure(folder, f) {
				t.Errorf("%s %s", name, w)
			}
		}
	}
}

// The checker itself: one file each, and how many faults it has.
func TestImpure(t *testing.T) {
	for _, c := range []struct {
		src  string
		want int
	}{
		{`import ("math"; "net/netip"; "time"); const d = time.Second`, 0},
		{`import "` + module + `/ring"`, 0},
		{`import "golang.org/x/sys/cpu"`, 0},
		{`import "golang.org/x/sys/unix"`, 1},
		{`import "net"`, 1},
		{`import "net/http"`, 1},
		{`import "os/exec"`, 1},
		{`import "time"; var now = time.Now()`, 1},
		{`import clock "time"; func f() { clock.Sleep(1) }`, 1},
		{`import . "time"`, 1},
		{`func f() { go f() }`, 1},
		{`type host struct{}; func (host) Now() int64 { return 0 }; var time host; var now = time.Now()`, 0},
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "", "package p; "+c.src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := impure("ip", f); len(wrong) != c.want {
			t.Errorf("%s: %s", c.src, fmt.Sprint(wrong))
		}
	}
}
