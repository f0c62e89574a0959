package onload_test

import (
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// differs lists the parts of net's API that are deliberately not the same
// here, with the reason. It is empty: importing this package instead of net
// compiles.
var differs = map[string]string{}

// TestAPI checks that everything that net exports is here with the same
// signature, given that the types that this package redefines stand for
// net's.
func TestAPI(t *testing.T) {
	imp := exportData(t)
	std, err := imp.Import("net")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := imp.Import("github.com/onload-go/onload/net")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{"Dialer": true, "ListenConfig": true, "TCPConn": true, "TCPListener": true, "UDPConn": true}
	qualify := func(p *types.Package) string {
		if p == std || p == ours {
			return "net"
		}
		return p.Path()
	}
	// Names of parameters and results are not part of what must agree.
	var str func(o types.Object) string
	str = func(o types.Object) string {
		sig, ok := o.Type().(*types.Signature)
		if !ok {
			return types.TypeString(types.Unalias(o.Type()), qualify)
		}
		var b strings.Builder
		for _, tuple := range []*types.Tuple{sig.Params(), sig.Results()} {
			b.WriteByte('(')
			for v := range tuple.Variables() {
				b.WriteString(str(v) + ",")
			}
			b.WriteByte(')')
		}
		return b.String()
	}

	for _, name := range std.Scope().Names() {
		want := std.Scope().Lookup(name)
		if !want.Exported() || differs[name] != "" {
			continue
		}
		got := ours.Scope().Lookup(name)
		switch {
		case got == nil:
			t.Errorf("%s is missing", name)
			continue
		case kind(got) != kind(want):
			t.Errorf("%s is a %s, in net a %s", name, kind(got), kind(want))
			continue
		case !own[name] && str(got) != str(want):
			t.Errorf("%s is %s, in net %s", name, str(got), str(want))
		}
		if c, ok := want.(*types.Const); ok && got.(*types.Const).Val().String() != c.Val().String() {
			t.Errorf("%s = %s, in net %s", name, got.(*types.Const).Val(), c.Val())
		}
		if !own[name] {
			continue
		}
		for _, m := range members(want) {
			label := name + "." + m.Name()
			mine, _, _ := types.LookupFieldOrMethod(types.NewPointer(got.Type()), true, ours, m.Name())
			switch {
			case differs[label] != "":
			case mine == nil:
				t.Errorf("%s is missing", label)
			case str(mine) != str(m):
				t.Errorf("%s is %s, in net %s", label, str(mine), str(m))
			}
		}
	}
}

func kind(o types.Object) string {
	switch o.(type) {
	case *types.Func:
		return "func"
	case *types.Var:
		return "var"
	case *types.Const:
		return "const"
	}
	return "type"
}

// members are the exported fields and methods of a type.
func members(o types.Object) (l []types.Object) {
	ms := types.NewMethodSet(types.NewPointer(o.Type()))
	for i := range ms.Len() {
		if m := ms.At(i).Obj(); m.Exported() {
			l = append(l, m)
		}
	}
	if s, ok := o.Type().Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				l = append(l, f)
			}
		}
	}
	return l
}

// exportData imports what the go command has compiled.
func exportData(t *testing.T) types.Importer {
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			files[path] = file
		}
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
}
