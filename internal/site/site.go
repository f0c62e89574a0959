// Package site renders the repository's documents as a site of plain files: HTML, one
// style sheet, no scripts and no service.
package site

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS []byte

var page = template.Must(template.New("page").Parse(pageHTML))

// repository is where links to files go that are no pages.
const repository = "https://github.com/onload-go/onload/blob/main/"

// Page is a document.
type Page struct {
	File    string   // from the root, with slashes in it
	Title   string   // its first heading
	Heads   []string // anchors of its headings
	Links   []string // as written
	content []byte   // HTML
}

// HTML is the page's file in the site.
func (p *Page) HTML() string {
	if p.File == "README.md" {
		return "index.html"
	}
	return strings.TrimSuffix(p.File, ".md") + ".html"
}

// Files lists the documents below root: those of the root and of docs, README.md first.
func Files(root string) ([]string, error) {
	top, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".md") {
			top = append(top, p)
		}
		return err
	})
	var files []string
	for _, p := range top {
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return nil, err
		}
		files = append(files, filepath.ToSlash(rel))
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	return files, err
}

// rank orders the pages: README.md, the guides for users, then what is for developers.
func rank(file string) string {
	switch {
	case file == "README.md":
		return "0"
	case strings.HasPrefix(file, "docs/"):
		return "1" + file
	}
	return "2" + file
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// Read renders the documents below root.
func Read(root string) ([]*Page, error) {
	files, err := Files(root)
	if err != nil {
		return nil, err
	}
	pages := make([]*Page, len(files))
	for i, file := range files {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		if pages[i], err = render(file, src, files); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return pages, nil
}

// render makes a page of Markdown. files are those that become pages.
func render(file string, src []byte, files []string) (*Page, error) {
	p := &Page{File: file, Title: file}
	doc := markdown.Parser().Parse(text.NewReader(src))
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if id, ok := n.AttributeString("id"); ok {
				p.Heads = append(p.Heads, string(id.([]byte)))
			}
			if n.Level == 1 && p.Title == file {
				p.Title = string(n.Lines().Value(src))
			}
		case *ast.Link:
			p.Links = append(p.Links, string(n.Destination))
			n.Destination = []byte(target(file, string(n.Destination), files))
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = markdown.Renderer().Render(&b, src, doc)
	p.content = b.Bytes()
	return p, err
}

// target is where a link of a page leads in the site.
func target(file, to string, files []string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Path == "" {
		return to
	}
	at := path.Join(path.Dir(file), u.Path)
	if !slices.Contains(files, at) {
		u.Path = at
		return repository + strings.TrimPrefix(u.String(), "./")
	}
	dir := strings.Repeat("../", strings.Count(file, "/"))
	u.Path = dir + (&Page{File: at}).HTML()
	return u.String()
}

// Write writes the site to the folder out, which is made.
func Write(root, out string) error {
	pages, err := Read(root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	errs := []error{os.WriteFile(filepath.Join(out, "style.css"), styleCSS, 0o644)}
	for _, p := range pages {
		up := strings.Repeat("../", strings.Count(p.File, "/"))
		type entry struct {
			Href, Title string
			Here        bool
		}
		var nav []entry
		for _, q := range pages {
			nav = append(nav, entry{up + q.HTML(), q.Title, p == q})
		}
		var b bytes.Buffer
		err := page.Execute(&b, map[string]any{"Title": p.Title, "Up": up, "Nav": nav, "Content": template.HTML(p.content)})
		to := filepath.Join(out, filepath.FromSlash(p.HTML()))
		errs = append(errs, err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b.Bytes(), 0o644))
	}
	return errors.Join(errs...)
}
