package importrules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// toolsOnly are libraries for the program onload, which no program is to grow by.
var toolsOnly = []string{"github.com/spf13/cobra", "github.com/onload-go/onload/internal/operate", "github.com/onload-go/onload/internal/inspect/ask"}

// TestToolsOnly: outside of cmd and the packages for it nobody imports them.
func TestToolsOnly(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return nil // testdata that does not parse
		}
		for _, i := range f.Imports {
			imp := strings.Trim(i.Path.Value, `"`)
			for _, tool := range toolsOnly {
				if !within(tool, imp) {
					continue
				}
				found++
				if folder := filepath.ToSlash(path); !strings.HasPrefix(folder, "../../cmd/") && !strings.HasPrefix(folder, "../../internal/operate/") {
					t.Errorf("%s imports %s, which is for the program onload", path, imp)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("nothing imports them: are the names right?")
	}
}
