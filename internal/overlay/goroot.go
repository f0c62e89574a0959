package overlay

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed std
var std embed.FS

// added are the files that the standard library gets, below src.
var added = map[string]string{
	"internal/onload/hook.go": "hook.go.txt",
	"net/onload/link.go":      "link.go.txt",
	"net/zz_onload_fd.go":     "net_fd.go.txt",
	"net/zz_onload_udp.go":    "net_udp.go.txt",
	"net/zz_onload_share.go":  "net_share.go.txt",
	"net/zz_onload_socket.go": "net_socket.go.txt",
}

// tree is a GOROOT to be: the text of a file or the target of a symbolic link, by
// slash-separated path.
type tree struct {
	text  map[string][]byte
	links map[string]string
}

// Root returns a GOROOT for the Linux programs of a real one, with this module's
// packages. It lies in the folder cache, from which it may be removed at any time,
// and is made only if it is not there.
func Root(real Go, cache string) (dir string, err error) {
	file := memoryFile(real, cache)
	if dir, ok := remembered(file); ok {
		use(file)
		use(dir)
		return dir, nil
	}
	own, err := FindSource(real)
	if err != nil {
		return "", err
	}
	from, settled, err := madeFrom(real, own) // before anything is read
	if err != nil {
		return "", err
	}
	if dir, err = makeRoot(real, own, cache); err != nil || !settled {
		return dir, err
	}
	text, err := json.Marshal(memory{dir, from})
	if err != nil {
		return "", err
	}
	return dir, write(file, text)
}

// makeRoot makes a GOROOT, unless one with the same content is there.
func makeRoot(real Go, own *Source, cache string) (dir string, err error) {
	t := &tree{text: map[string][]byte{}, links: map[string]string{}}
	if err := t.patch(real); err != nil {
		return "", err
	}
	if err := t.vendor(real, own); err != nil {
		return "", err
	}
	if err := t.rest(real.Root); err != nil {
		return "", err
	}
	dir = filepath.Join(cache, real.Version+"-"+t.hash())
	if _, err := os.Stat(dir); err == nil {
		use(dir)
		return dir, nil
	}
	trim(cache)
	return dir, t.write(dir)
}

// patch adds package net with its changes, and the added packages.
func (t *tree) patch(real Go) error {
	changed, err := Patch(os.DirFS(filepath.Join(real.Root, "src", "net")), real.Version)
	if err != nil {
		return err
	}
	for name, text := range changed {
		t.text["src/net/"+name] = text
	}
	for name, from := range added {
		if t.text["src/"+name], err = std.ReadFile("std/" + from); err != nil {
			return err
		}
	}
	return nil
}

// unneeded are files of dependencies that a program is left without, by package.
// zap's level as an HTTP handler is its only use of net/http, which would make a
// program without HTTP 4 MiB larger.
var unneeded = map[string]string{"go.uber.org/zap": "http_handler.go"}

// vendor adds the module's packages and their dependencies to those that the
// standard library has from other modules. A package that it has already is its own:
// two releases of one are never mixed. All are copied: the go command reads folders
// with symbolic links again for each build.
func (t *tree) vendor(real Go, own *Source) error {
	vendor := filepath.Join(real.Root, "src", "vendor")
	has := map[string]bool{}
	err := filepath.WalkDir(vendor, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(vendor, p)
		rel = filepath.ToSlash(rel)
		has[path.Dir(rel)] = true
		t.text["src/vendor/"+rel], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		return err
	}
	for pkg, from := range own.Packages {
		if has[pkg] {
			continue
		}
		files, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		if name := unneeded[pkg]; name != "" && !slices.ContainsFunc(files, func(f fs.DirEntry) bool { return f.Name() == name }) {
			return fmt.Errorf("onload: the rule for %s: there is no %s", pkg, name)
		}
		for _, f := range files {
			if !f.Type().IsRegular() || strings.HasSuffix(f.Name(), "_test.go") || f.Name() == unneeded[pkg] {
				continue
			}
			text, err := os.ReadFile(filepath.Join(from, f.Name()))
			if err != nil {
				return err
			}
			t.text["src/vendor/"+pkg+"/"+f.Name()] = text
		}
	}
	return nil
}

// rest links to the real GOROOT what has no change: whole folders where nothing
// below is of t.
func (t *tree) rest(real string) error {
	own := map[string]bool{"": true}
	for _, names := range [][]string{slices.Collect(maps.Keys(t.text)), slices.Collect(maps.Keys(t.links))} {
		for _, name := range names {
			for d := path.Dir(name); d != "."; d = path.Dir(d) {
				own[d] = true
			}
		}
	}
	for d := range own {
		if d == "src/vendor" || strings.HasPrefix(d, "src/vendor/") {
			continue // is there as a whole
		}
		entries, err := os.ReadDir(filepath.Join(real, filepath.FromSlash(d)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // one of the added
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(d, e.Name())
			if _, ok := t.text[name]; !ok && !own[name] {
				t.links[name] = filepath.Join(real, filepath.FromSlash(name))
			}
		}
	}
	return nil
}

// hash names the content.
func (t *tree) hash() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t.text)) {
		fmt.Fprintf(h, "%s %d\n", name, len(t.text[name]))
		h.Write(t.text[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.links)) {
		fmt.Fprintf(h, "%s %s\n", name, t.links[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// write makes dir, at once: another process that makes the same one finds nothing
// or all.
func (t *tree) write(dir string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(tmp)
		}
	}()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for name, text := range t.text {
		p := filepath.Join(tmp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, text, 0o644); err != nil {
			return err
		}
	}
	for name, target := range t.links {
		p := filepath.Join(tmp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, p); err != nil {
			return err
		}
	}
	return publish(tmp, dir)
}

// publish gives a folder that is complete its name. If another process was first, its
// one stays.
func publish(tmp, dir string) error {
	err := os.Rename(tmp, dir)
	if err == nil {
		return nil
	}
	removeAll(tmp)
	if _, there := os.Stat(dir); there != nil {
		return err
	}
	return nil
}
