// Package dropin finds what has to change in a program that imports Onload's package
// instead of net, and makes the change. Six types of net are Onload's own there; a
// dependency that wants net's, as crypto/tls wants a *net.Dialer, cannot be given them.
package dropin

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Onload is the import path of the package that stands for net, TLS that of the one
// for crypto/tls's functions that take a net.Dialer.
const (
	Onload = "github.com/onload-go/onload/net"
	TLS    = Onload + "/onloadtls"
)

// own are the types of net that are Onload's own.
var own = []string{"Buffers", "Dialer", "ListenConfig", "TCPConn", "TCPListener", "UDPConn"}

// Place is where a value of an own type goes to a dependency that wants net's.
type Place struct {
	Pos    token.Position
	What   string // the function or field that wants it
	Change string // what to do
	known  *known // nil: Swap cannot do it
	expr   ast.Expr
}

func (p Place) String() string {
	return fmt.Sprintf("%s: %s wants package net's type: %s", p.Pos, p.What, p.Change)
}

// known is a name that has a counterpart in package TLS.
type known struct{ name string }

// counterparts are the names that have one, by function or field.
var counterparts = map[string]*known{
	"crypto/tls.DialWithDialer":   {"DialWithDialer"},
	"crypto/tls.Dialer.NetDialer": {"Dialer"},
}

const byHand = "keep package net in this file, or build the program by `onload build`, which needs no change"

// program are the packages of the user's modules.
type program struct {
	fset *token.FileSet
	pkgs []*packages.Package
	ours map[string]bool // paths of packages that a swap changes
}

// load loads packages with their tests. Those that do not compile are an error,
// unless allowed: a program whose imports are swapped already may not.
func load(dir string, patterns []string, broken bool) (*program, error) {
	p := &program{fset: token.NewFileSet(), ours: map[string]bool{}}
	c := &packages.Config{
		Dir: dir, Fset: p.fset, Tests: true,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedExportFile |
			packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule,
	}
	pkgs, err := packages.Load(c, patterns...)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, pkg := range pkgs {
		if strings.HasSuffix(pkg.PkgPath, ".test") {
			continue // the go command's own main package
		}
		if isUsers(pkg) {
			p.pkgs = append(p.pkgs, pkg)
			p.ours[pkg.PkgPath] = true
		}
		for _, e := range pkg.Errors {
			if !broken || e.Kind != packages.TypeError {
				errs = append(errs, e)
			}
		}
	}
	if len(p.pkgs) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: no package of this module", strings.Join(patterns, " ")))
	}
	return p, errors.Join(errs...)
}

// isUsers reports whether a package is of the main module, or of the workspace's, or
// named by its files. A pattern such as all names dependencies too, the standard library
// among them, whose files are everybody's.
func isUsers(pkg *packages.Package) bool {
	if pkg.Module == nil {
		return pkg.PkgPath == "command-line-arguments"
	}
	return pkg.Module.Main
}

// Vet returns the places of packages, and of their tests, at which package Onload
// cannot stand for net.
func Vet(dir string, patterns []string) ([]Place, error) {
	p, err := load(dir, patterns, true)
	if err != nil {
		return nil, err
	}
	var all []Place
	for _, pkg := range p.pkgs {
		for _, f := range pkg.Syntax {
			all = append(all, p.places(pkg, f)...)
		}
	}
	return unique(all), nil
}

// unique sorts places. A file is in several packages where there are tests.
func unique(all []Place) []Place {
	slices.SortFunc(all, func(a, b Place) int { return strings.Compare(a.sortKey(), b.sortKey()) })
	return slices.CompactFunc(all, func(a, b Place) bool { return a.sortKey() == b.sortKey() })
}

func (p Place) sortKey() string {
	return fmt.Sprintf("%s %08d %08d", p.Pos.Filename, p.Pos.Line, p.Pos.Column)
}

// places returns those of one file.
func (p *program) places(pkg *packages.Package, f *ast.File) (all []Place) {
	at := func(e ast.Expr, what string, replace ast.Expr) {
		place := Place{Pos: p.fset.Position(e.Pos()), What: what, Change: byHand}
		if k := counterparts[what]; k != nil {
			place.Change = fmt.Sprintf("use %s of %s", k.name, TLS)
			if replace != nil {
				place.known, place.expr = k, replace
			}
		}
		all = append(all, place)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			for _, arg := range p.wanted(pkg, n) {
				at(arg, callee(pkg, n).FullName(), n.Fun)
			}
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if name, ok := p.field(pkg, kv.Key, n); ok {
						at(kv.Key, name, n.Type)
					}
				}
			}
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if s, ok := l.(*ast.SelectorExpr); ok {
					if name, ok := p.field(pkg, s.Sel, s.X); ok {
						at(l, name, nil)
					}
				}
			}
		}
		return true
	})
	return all
}

// callee is the function that a call names, or nil.
func callee(pkg *packages.Package, call *ast.CallExpr) *types.Func {
	var id *ast.Ident
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return nil
	}
	fn, _ := pkg.TypesInfo.Uses[id].(*types.Func)
	return fn
}

// wanted returns the arguments of a call for which a dependency wants an own type of
// package net.
func (p *program) wanted(pkg *packages.Package, call *ast.CallExpr) (args []ast.Expr) {
	fn := callee(pkg, call)
	if fn == nil || !p.foreign(fn.Pkg()) {
		return nil
	}
	params := fn.Signature().Params()
	for i, arg := range call.Args {
		if params.Len() == 0 {
			break
		}
		if mentions(params.At(min(i, params.Len()-1)).Type()) && !isNil(pkg, arg) {
			args = append(args, arg)
		}
	}
	return args
}

func isNil(pkg *packages.Package, e ast.Expr) bool { return pkg.TypesInfo.Types[e].IsNil() }

// field returns the name of a dependency's field of an own type, with package and
// struct. of has the struct's type.
func (p *program) field(pkg *packages.Package, key, of ast.Expr) (name string, ok bool) {
	id, ok := key.(*ast.Ident)
	if !ok {
		return "", false
	}
	v, ok := pkg.TypesInfo.Uses[id].(*types.Var)
	if !ok || !v.IsField() || !p.foreign(v.Pkg()) || !mentions(v.Type()) {
		return "", false
	}
	name = v.Pkg().Path() + "." + v.Name()
	t := pkg.TypesInfo.TypeOf(of)
	if ptr, ok := t.(*types.Pointer); ok {
		t = ptr.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		name = v.Pkg().Path() + "." + n.Obj().Name() + "." + v.Name()
	}
	return name, true
}

// foreign reports whether a package is a dependency that stays as it is.
func (p *program) foreign(pkg *types.Package) bool {
	return pkg != nil && pkg.Path() != "net" && !strings.HasPrefix(pkg.Path(), Onload) && !p.ours[pkg.Path()]
}

// mentions reports whether a type is, or is made of, an own type of package net.
func mentions(t types.Type) bool {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		o := t.Obj()
		return o.Pkg() != nil && o.Pkg().Path() == "net" && slices.Contains(own, o.Name())
	case *types.Pointer:
		return mentions(t.Elem())
	case *types.Slice:
		return mentions(t.Elem())
	case *types.Array:
		return mentions(t.Elem())
	case *types.Chan:
		return mentions(t.Elem())
	case *types.Map:
		return mentions(t.Key()) || mentions(t.Elem())
	case *types.Signature:
		return slices.ContainsFunc(slices.Collect(t.Params().Variables()), mentionedBy) ||
			slices.ContainsFunc(slices.Collect(t.Results().Variables()), mentionedBy)
	}
	return false
}

func mentionedBy(v *types.Var) bool { return mentions(v.Type()) }
