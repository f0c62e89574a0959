package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	comment = regexp.MustCompile(`(^|\s)//.*`)
)

// plain is code without comments, indentation and blank lines, so that a
// fragment can be found in a file.
func plain(code string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(comment.ReplaceAllString(line, "")); line != "" {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// unknown returns the paragraphs of the Go code in text that none of the files
// has.
func unknown(text string, files []string) (wrong []string) {
	for _, m := range goBlock.FindAllStringSubmatch(text, -1) {
		for _, p := range strings.Split(m[1], "\n\n") {
			found := false
			for _, f := range files {
				// An import may be one of several.
				found = found || strings.Contains(f, plain(p)) || strings.Contains(f, "\n"+strings.TrimPrefix(plain(p), "\nimport "))
			}
			if !found {
				wrong = append(wrong, p)
			}
		}
	}
	return wrong
}

// The code in README.md is code that compiles: each paragraph is in a file that
// is not a test.
func TestCodeExists(t *testing.T) {
	const root = "../.."
	var files []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		files = append(files, plain(string(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range unknown(string(b), files) {
		t.Errorf("README.md shows code that no file has:\n%s", p)
	}

	if got := unknown("```go\nimport a \"b\"\n\n\tx := 1 // one\n\ty := 2\n\nz()\n```\n", []string{plain("import (\n\ta \"b\"\n)\nx := 1\n// two\n  y := 2\n")}); len(got) != 1 || got[0] != "z()\n" {
		t.Errorf("the checker finds %q", got)
	}
}
