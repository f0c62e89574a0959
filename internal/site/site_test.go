package site

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

const root = "../.."

// dead returns the links of pages that lead nowhere: to no file of the repository, or to
// no heading of a page.
func dead(t *testing.T, pages []*Page) (wrong []string) {
	t.Helper()
	of := map[string]*Page{}
	for _, p := range pages {
		of[p.File] = p
	}
	for _, p := range pages {
		for _, l := range p.Links {
			u, err := url.Parse(l)
			if err != nil {
				wrong = append(wrong, p.File+": "+l)
				continue
			}
			if u.Scheme != "" {
				continue // another site's
			}
			at := p.File
			if u.Path != "" {
				at = path.Join(path.Dir(p.File), u.Path)
			}
			q := of[at]
			_, err = os.Stat(filepath.Join(root, filepath.FromSlash(at)))
			if q == nil && err != nil || q != nil && u.Fragment != "" && !slices.Contains(q.Heads, u.Fragment) {
				wrong = append(wrong, p.File+": "+l)
			}
		}
	}
	return wrong
}

func TestLinks(t *testing.T) {
	pages, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 || pages[0].File != "README.md" {
		t.Fatalf("%d pages", len(pages))
	}
	for _, w := range dead(t, pages) {
		t.Errorf("dead link: %s", w)
	}

	bad, err := render("docs/x.md", []byte("# X\n[a](gone.md) [b](release.md) [c](#x) [d](#y) [e](https://go.dev) [f](../LICENSE)\n"), []string{"docs/x.md", "docs/release.md"})
	if err != nil {
		t.Fatal(err)
	}
	if got := dead(t, []*Page{bad}); !slices.Equal(got, []string{"docs/x.md: gone.md", "docs/x.md: #y"}) {
		t.Errorf("the checker finds %q", got)
	}
}

var href = regexp.MustCompile(`href="([^"]*)"`)

// Every page is in the site, and each link within it leads to a file of it.
func TestWrite(t *testing.T) {
	out := t.TempDir()
	if err := Write(root, out); err != nil {
		t.Fatal(err)
	}
	files, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		p := &Page{File: f}
		text, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(p.HTML())))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range href.FindAllStringSubmatch(string(text), -1) {
			u, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			if err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			if u.Scheme != "" || u.Path == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(out, filepath.FromSlash(path.Join(path.Dir(p.HTML()), u.Path)))); err != nil {
				t.Errorf("%s: %s leads nowhere", f, m[1])
			}
		}
	}
}
