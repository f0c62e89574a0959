package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// tree is the repository as a document can name it.
type tree struct {
	files    map[string]bool     // paths of files and folders from the root
	base     map[string]int      // how many files or folders have that last element
	packages map[string]bool     // names of packages
	standard map[string]bool     // names of packages of the standard library that are imported
	top      map[string]bool     // "package.Name" of what is declared at package level
	members  map[string]bool     // "Type.Name" of fields and methods
	embedded map[string][]string // type names that a type's struct or interface embeds
	words    map[string]bool     // every declared name
	within   map[string]bool     // "file.go Name" and "folder/file.go Name"
	strings  map[string]bool     // string literals: settings, values, flags
}

// readTree parses all Go files below root, whatever their build tags.
func readTree(root string) (*tree, error) {
	t := &tree{
		files: map[string]bool{}, base: map[string]int{}, packages: map[string]bool{}, standard: map[string]bool{}, top: map[string]bool{},
		members: map[string]bool{}, embedded: map[string][]string{}, words: map[string]bool{}, within: map[string]bool{}, strings: map[string]bool{},
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		t.files[filepath.ToSlash(rel)] = true
		t.base[d.Name()]++
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.Contains(p, "/testdata/") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.add(filepath.ToSlash(rel), f)
		return nil
	})
	return t, err
}

func (t *tree) add(file string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			t.within[file+" "+id.Name] = true
			t.within[path.Base(file)+" "+id.Name] = true
		}
		return true
	})
	pkg := strings.TrimSuffix(f.Name.Name, "_test")
	t.packages[pkg] = true
	for _, i := range f.Imports {
		imp, err := strconv.Unquote(i.Path.Value)
		if first, _, _ := strings.Cut(imp, "/"); err == nil && !strings.Contains(first, ".") {
			t.standard[path.Base(imp)] = true
		}
	}
	declare := func(name string) {
		t.top[pkg+"."+name] = true
		t.words[name] = true
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				declare(d.Name.Name)
			} else {
				t.member(typeName(d.Recv.List[0].Type), d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					declare(s.Name.Name)
					t.fields(s.Name.Name, s.Type)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						declare(n.Name)
					}
				}
			}
		}
	}
	if pkg == "docs" {
		return // its strings are names that may not exist
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				t.strings[s] = true
			}
		}
		return true
	})
}

func (t *tree) member(typ, name string) {
	t.members[typ+"."+name] = true
	t.words[name] = true
}

// fields notes the fields and interface methods of a type, and those of the
// structs nested in it.
func (t *tree) fields(typ string, e ast.Expr) {
	var list *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default: // type A B, or an alias: A has what B has
		if n := typeName(e); n != "" && n != typ {
			t.embedded[typ] = append(t.embedded[typ], n)
		}
		return
	}
	for _, f := range list.List {
		for _, n := range f.Names {
			t.member(typ, n.Name)
			if s, ok := f.Type.(*ast.StructType); ok {
				t.fields(typ, s)
			}
		}
		if n := typeName(f.Type); len(f.Names) == 0 && n != "" {
			t.member(typ, n)
			t.embedded[typ] = append(t.embedded[typ], n)
		}
	}
}

// has reports whether a type has a field or method, of its own or by
// embedding.
func (t *tree) has(typ, name string) bool {
	seen := map[string]bool{}
	var look func(string) bool
	look = func(typ string) bool {
		if seen[typ] {
			return false
		}
		seen[typ] = true
		if t.members[typ+"."+name] {
			return true
		}
		for _, e := range t.embedded[typ] {
			if look(e) {
				return true
			}
		}
		return false
	}
	return look(typ)
}

// typeName returns the name of a type without its package, pointer and
// parameters, or "".
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	}
	return ""
}
