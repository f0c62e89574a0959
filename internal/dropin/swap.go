package dropin

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/ast/astutil"
)

// Change is what Swap makes of a file.
type Change struct {
	File  string
	Lines []string // what changes, for people
	Text  []byte
}

// Write writes the file.
func (c Change) Write() error {
	info, err := os.Stat(c.File)
	if err != nil {
		return err
	}
	return os.WriteFile(c.File, c.Text, info.Mode().Perm())
}

// Swap returns the files of packages that import net, importing Onload instead under
// the same name. A file with a place that has to be changed by hand stays as it is:
// left has these.
func Swap(dir string, patterns []string) (changes []Change, left []Place, err error) {
	p, err := load(dir, patterns, false)
	if err != nil {
		return nil, nil, err
	}
	done := map[string]bool{} // a file is in several packages where there are tests
	for _, pkg := range p.pkgs {
		for _, f := range pkg.Syntax {
			name := p.fset.Position(f.Pos()).Filename
			if done[name] || !slices.Contains(pkg.GoFiles, name) || netImport(f) == nil {
				continue
			}
			done[name] = true
			places := p.places(pkg, f)
			if slices.ContainsFunc(places, func(x Place) bool { return x.known == nil }) {
				left = append(left, places...)
				continue
			}
			c, err := p.swap(f, places)
			if err != nil {
				return nil, nil, err
			}
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.File, b.File) })
	return changes, unique(left), nil
}

func netImport(f *ast.File) *ast.ImportSpec {
	for _, spec := range f.Imports {
		if spec.Path.Value == `"net"` {
			return spec
		}
	}
	return nil
}

// swap changes the syntax tree of a file.
func (p *program) swap(f *ast.File, places []Place) (c Change, err error) {
	c.File = p.fset.Position(f.Pos()).Filename
	note := func(pos token.Pos, format string, args ...any) {
		c.Lines = append(c.Lines, fmt.Sprintf("%s: %s", p.fset.Position(pos), fmt.Sprintf(format, args...)))
	}
	spec := netImport(f)
	note(spec.Pos(), "import %s", Onload)
	spec.Path.Value = strconv.Quote(Onload)
	if spec.Name == nil {
		spec.Name = &ast.Ident{Name: "net", NamePos: spec.Path.Pos()}
	}
	spec.EndPos = token.NoPos
	for _, x := range places {
		sel, ok := ast.Unparen(x.expr).(*ast.SelectorExpr)
		if !ok {
			return c, fmt.Errorf("%s: import crypto/tls by its name first", x.Pos)
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return c, fmt.Errorf("%s: %s is no name of a package", x.Pos, p.text(sel.X))
		}
		id.Name, sel.Sel.Name = filepath.Base(TLS), x.known.name
		note(x.expr.Pos(), "%s instead of %s", p.text(sel), x.What)
	}
	if len(places) > 0 {
		astutil.AddImport(p.fset, f, TLS)
		if !astutil.UsesImport(f, "crypto/tls") {
			astutil.DeleteImport(p.fset, f, "crypto/tls")
		}
	}
	var b bytes.Buffer
	if err := format.Node(&b, p.fset, f); err != nil {
		return c, err
	}
	c.Text = b.Bytes()
	return c, nil
}

func (p *program) text(n ast.Node) string {
	var b bytes.Buffer
	_ = format.Node(&b, p.fset, n)
	return b.String()
}
