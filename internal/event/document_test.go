package event_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

const root = "../.."

// entry is what the log says of an event: in the code, or in docs/events.md.
type entry struct{ levels, fields []string }

// names returns the events by the names of their constants.
func names(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if l, ok := v.Values[0].(*ast.BasicLit); ok {
				name, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				all[v.Names[0].Name] = name
			}
		}
		return true
	})
	return all
}

// add notes a call that logs an event.
func (e *entry) add(level string, args []ast.Expr, local map[string]string) {
	if !slices.Contains(e.levels, level) {
		e.levels = append(e.levels, level)
	}
	note := func(key string) {
		if key != "" && !slices.Contains(e.fields, key) {
			e.fields = append(e.fields, key)
		}
	}
	for _, a := range args {
		if id, ok := a.(*ast.Ident); ok {
			note(local[id.Name])
		}
		note(keyOf(a))
	}
}

// keyOf is the key of a field that zap makes, or "".
func keyOf(e ast.Expr) string {
	c, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != "zap" || len(c.Args) == 0 {
		return ""
	}
	if s.Sel.Name == "Error" {
		return "error"
	}
	if l, ok := c.Args[0].(*ast.BasicLit); ok {
		key, _ := strconv.Unquote(l.Value)
		return key
	}
	return "" // a key that differs: see notePath
}

// eventOf is the constant of an argument that is event.X.Field(), or "".
func eventOf(e ast.Expr) string {
	c, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Field" {
		return ""
	}
	if s, ok = s.X.(*ast.SelectorExpr); !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != "event" {
		return ""
	}
	return s.Sel.Name
}

var levels = []string{"Debug", "Info", "Warn", "Error"}

// logged returns the events that the code logs, by constant, and where the engine logs
// something from level info on that is none.
func logged(t *testing.T) (all map[string]*entry, bare []string) {
	t.Helper()
	all = map[string]*entry{}
	for _, folder := range []string{"net", "internal/engine", "internal/broker/client"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			local := map[string]string{} // variables that hold a field
			ast.Inspect(f, func(n ast.Node) bool {
				if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 {
					if id, ok := a.Lhs[0].(*ast.Ident); ok && keyOf(a.Rhs[0]) != "" {
						local[id.Name] = keyOf(a.Rhs[0])
					}
				}
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := c.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains(levels, s.Sel.Name) || len(c.Args) == 0 || !isLog(s.X) {
					return true
				}
				at := slices.IndexFunc(c.Args, func(a ast.Expr) bool { return eventOf(a) != "" })
				if at < 0 {
					if s.Sel.Name != "Debug" {
						bare = append(bare, set.Position(c.Pos()).String())
					}
					return true
				}
				name := eventOf(c.Args[at])
				if all[name] == nil {
					all[name] = &entry{}
				}
				all[name].add(strings.ToLower(s.Sel.Name), c.Args, local)
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all, bare
}

// isLog reports whether e is a logger by its name: x.log, log, or x.Log().
func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log"
	case *ast.CallExpr:
		s, ok := e.Fun.(*ast.SelectorExpr)
		return ok && s.Sel.Name == "Log"
	}
	return false
}

// documented returns the rows of docs/events.md.
func documented(t *testing.T) map[string]*entry {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/events.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*entry{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\| ([^|]*) \\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		all[m[1]] = &entry{strings.Split(m[2], ", "), strings.Split(m[3], ", ")}
	}
	return all
}

// inherited are fields that a logger has already: those of a NIC without a kernel name
// their interface. Keys of notePath are an argument.
var inherited = []string{"interface", "remote", "local"}

// The code logs each event with the levels and fields that docs/events.md says.
func TestDocument(t *testing.T) {
	code, bare := logged(t)
	for _, b := range bare {
		t.Errorf("%s logs without an event", b)
	}
	rows := documented(t)
	consts := names(t)
	if len(consts) < 20 {
		t.Fatalf("only %v", consts)
	}
	for constant, name := range consts {
		c, row := code[constant], rows[name]
		if c == nil || row == nil {
			t.Errorf("%s: logged %v, documented %v", name, c != nil, row != nil)
			continue
		}
		slices.Sort(c.levels)
		slices.Sort(row.levels)
		if !slices.Equal(c.levels, row.levels) {
			t.Errorf("%s has the levels %v, docs/events.md says %v", name, c.levels, row.levels)
		}
		for _, f := range c.fields {
			if !slices.Contains(row.fields, f) {
				t.Errorf("%s has the field %s, which docs/events.md does not name", name, f)
			}
		}
		for _, f := range row.fields {
			if !slices.Contains(c.fields, f) && !slices.Contains(inherited, f) {
				t.Errorf("%s has no field %s, which docs/events.md names", name, f)
			}
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/events.md names %s, which the code does not have", name)
	}
}
