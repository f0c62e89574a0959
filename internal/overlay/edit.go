package overlay

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
)

// source is one file under change. Edits are text at positions of the syntax tree,
// so that all else stays as it was.
type source struct {
	name  string
	text  []byte
	fset  *token.FileSet
	tree  *ast.File
	edits []edit
}

type edit struct {
	at, end int // of text
	with    string
}

func parse(name string, text []byte) (*source, error) {
	s := &source{name: name, text: text, fset: token.NewFileSet()}
	var err error
	s.tree, err = parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return s, err
}

func (s *source) offset(p token.Pos) int { return s.fset.Position(p).Offset }

func (s *source) textOf(n ast.Node) string {
	return string(s.text[s.offset(n.Pos()):s.offset(n.End())])
}

func (s *source) replace(n ast.Node, with string) {
	s.edits = append(s.edits, edit{s.offset(n.Pos()), s.offset(n.End()), with})
}

// funcs returns the functions of that name; recv is the type of the receiver as it is
// written, empty for none.
func (s *source) funcs(recv, name string) (all []*ast.FuncDecl) {
	for _, d := range s.tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != name || (f.Recv != nil) != (recv != "") {
			continue
		}
		if recv == "" || s.textOf(f.Recv.List[0].Type) == recv {
			all = append(all, f)
		}
	}
	return all
}

// result is the file with all edits. An import that nothing uses any more is taken
// out.
func (s *source) result() ([]byte, error) {
	slices.SortFunc(s.edits, func(a, b edit) int { return b.at - a.at })
	text := slices.Clone(s.text)
	for i, e := range s.edits {
		if i > 0 && e.end > s.edits[i-1].at {
			return nil, fmt.Errorf("%s: two rules change the same place", s.name)
		}
		text = slices.Replace(text, e.at, e.end, []byte(e.with)...)
	}
	after, err := parse(s.name, text)
	if err != nil {
		return nil, err
	}
	was := uses(s.tree)
	now := uses(after.tree)
	for i := len(after.tree.Imports) - 1; i >= 0; i-- {
		spec := after.tree.Imports[i]
		path, _ := strconv.Unquote(spec.Path.Value)
		name := path[lastSlash(path)+1:]
		if spec.Name == nil && was[name] && !now[name] {
			at, end := after.offset(spec.Pos()), after.offset(spec.End())
			text = slices.Delete(text, at, end)
		}
	}
	return format.Source(text)
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// uses returns the names that stand left of a dot.
func uses(f *ast.File) map[string]bool {
	m := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if x, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := x.X.(*ast.Ident); ok {
				m[id.Name] = true
			}
		}
		return true
	})
	return m
}
