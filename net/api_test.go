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

// own lists the types of net that this package has types of its own for, with the
// reason. All else is the same type, variable or constant, or a function with the same
// signature.
var own = map[string]string{
	"Buffers":      "net's knows only net's connections",
	"Dialer":       "it makes connections of ours",
	"ListenConfig": "it makes listeners of ours",
	"TCPConn":      "a connection may be a stack's",
	"TCPListener":  "its connections may be a stack's",
	"UDPConn":      "a socket may be a stack's",
}

// differs lists the names of net, and members of own types, that are deliberately not
// the same here, with the reason. It is empty: a program that imports this package
// instead of net compiles, unless others want net's own types.
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
	unused := map[string]bool{} // of both lists
	for name := range own {
		unused[name] = true
	}
	for name := range differs {
		unused[name] = true
	}
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
		got := ours.Scope().Lookup(name)
		if !want.Exported() {
			continue
		}
		switch {
		case differs[name] != "":
			unused[name] = got != nil && str(got) == str(want)
			continue
		case got == nil:
			t.Errorf("%s is missing", name)
			continue
		case kind(got) != kind(want):
			t.Errorf("%s is a %s, in net a %s", name, kind(got), kind(want))
			continue
		case own[name] != "":
			unused[name] = types.Identical(types.Unalias(got.Type()), types.Unalias(want.Type()))
		case str(got) != str(want):
			t.Errorf("%s is %s, in net %s", name, str(got), str(want))
		}
		if c, ok := want.(*types.Const); ok && got.(*types.Const).Val().String() != c.Val().String() {
			t.Errorf("%s = %s, in net %s", name, got.(*types.Const).Val(), c.Val())
		}
		if own[name] == "" {
			continue
		}
		if _, ok := want.Type().Underlying().(*types.Struct); !ok && !types.Identical(got.Type().Underlying(), want.Type().Underlying()) {
			t.Errorf("%s is %v, in net %v", name, got.Type().Underlying(), want.Type().Underlying())
		}
		for _, m := range members(want) {
			label := name + "." + m.Name()
			mine, _, _ := types.LookupFieldOrMethod(types.NewPointer(got.Type()), true, ours, m.Name())
			switch {
			case differs[label] != "":
				unused[label] = mine != nil && str(mine) == str(m)
			case mine == nil:
				t.Errorf("%s is missing", label)
			case str(mine) != str(m):
				t.Errorf("%s is %s, in net %s", label, str(mine), str(m))
			}
		}
	}
	for name, is := range unused {
		if is {
			t.Errorf("%s is the same as in net, or is not there: the list of differences is stale", name)
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
