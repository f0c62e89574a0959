package importrules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testNames are the tests and fuzzers of the repository.
func testNames(t *testing.T, root string) map[string]bool {
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TESTING.md names tests that exist, and at least one for each attack.
func TestTestingDoc(t *testing.T) {
	b, err := os.ReadFile("../../TESTING.md")
	if err != nil {
		t.Fatal(err)
	}
	have := testNames(t, "../..")
	named := regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`)
	for _, name := range named.FindAllString(string(b), -1) {
		if !have[name] {
			t.Errorf("TESTING.md names %s, which does not exist", name)
		}
	}
	_, attacks, ok := strings.Cut(string(b), "\n## Attacks\n")
	if !ok {
		t.Fatal("no attacks in TESTING.md")
	}
	attacks, _, _ = strings.Cut(attacks, "\n## ")
	rows := map[int]bool{}
	for line := range strings.Lines(attacks) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(cells[1])); err == nil && named.MatchString(cells[3]) {
			rows[n] = true
		}
	}
	for n := 1; n <= 30; n++ {
		if !rows[n] {
			t.Errorf("TESTING.md has no test of attack %d", n)
		}
	}
	for name := range have {
		if strings.HasPrefix(name, "Fuzz") && !strings.Contains(string(b), name) {
			t.Errorf("TESTING.md does not name %s", name)
		}
	}
}
