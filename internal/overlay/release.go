package overlay

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// released reports whether the packages are PACKAGE@VERSION.
func (a *args) released() bool {
	return len(a.packages) > 0 && strings.Contains(a.packages[0], "@")
}

// downloaded is a module that the go command has in its cache.
type downloaded struct{ Path, Version, Dir string }

// download has the go command at command bring a module.
func download(command, module, version string) (m downloaded, err error) {
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	text, err := run(os.TempDir(), env, command, "mod", "download", "-json", module+"@"+version)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// prepareReleased prepares for packages of a module's release. Their folders are in
// the module cache, where the go command refuses overlays; so it gets another module
// cache, which has the module with the files that are added, and leads to the user's
// for all else. The program's version is the release's.
func (p *prepared) prepareReleased() error {
	var patterns []string
	_, version, _ := strings.Cut(p.packages[0], "@")
	for _, arg := range p.packages {
		pattern, v, _ := strings.Cut(arg, "@")
		if v != version {
			return fmt.Errorf("onload: all arguments must be packages of one module at one version: %s", strings.Join(p.packages, " "))
		}
		patterns = append(patterns, pattern)
	}
	m, err := findModule(patterns[0], version)
	if err != nil {
		return err
	}
	if p.g, err = FindGo(m.Dir); err != nil { // its go.mod may ask for a newer one
		return err
	}
	if p.g.OS != "linux" {
		return nil
	}
	p.fromGOFLAGS(p.g.Flags)
	cache := filepath.Join(p.g.Cache, "onload")
	if p.goroot, err = Root(p.g, filepath.Join(cache, "goroot")); err != nil {
		return err
	}
	if p.overlay != "" {
		replace, err := p.users()
		if err != nil {
			return err
		}
		if err := p.writePlan(replace, filepath.Join(cache, "overlay")); err != nil {
			return err
		}
	}
	p.mods, err = p.moduleCache(m, patterns, filepath.Join(cache, "mod"))
	return err
}

// findModule returns the module of a package: the one with the longest path that has
// the package's folder, as the go command decides.
func findModule(pattern, version string) (downloaded, error) {
	pkg := strings.TrimSuffix(strings.TrimSuffix(pattern, "..."), "/")
	var first error
	for mod := pkg; mod != "." && mod != "/"; mod = path.Dir(mod) {
		m, err := download("go", mod, version)
		if err == nil {
			if _, err = os.Stat(filepath.Join(m.Dir, filepath.FromSlash(strings.TrimPrefix(pkg, mod)))); err == nil {
				return m, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	return downloaded{}, fmt.Errorf("onload: no module has the package %s@%s: %w", pkg, version, first)
}

// moduleCache makes the module cache for m, unless it is there.
func (p *prepared) moduleCache(m downloaded, patterns []string, cache string) (dir string, err error) {
	rel, err := filepath.Rel(p.g.Modules, m.Dir)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("onload: %s is not below the module cache %s", m.Dir, p.g.Modules)
	}
	h := sha256.Sum256(fmt.Append(nil, m.Dir, "\n", patterns, p.tags, p.g.Arch, string(linkedText("main"))))
	dir = filepath.Join(cache, hex.EncodeToString(h[:8]))
	if _, err := os.Stat(dir); err == nil {
		use(dir)
		return dir, nil
	}
	trim(cache)
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	if err := p.fillModuleCache(tmp, m, filepath.ToSlash(rel), patterns); err != nil {
		removeAll(tmp)
		return "", err
	}
	return dir, publish(tmp, dir)
}

func (p *prepared) fillModuleCache(dir string, m downloaded, rel string, patterns []string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := linkBeside(p.g.Modules, dir, strings.Split(rel, "/")); err != nil {
		return err
	}
	own := filepath.Join(dir, filepath.FromSlash(rel))
	if err := os.CopyFS(own, os.DirFS(m.Dir)); err != nil {
		return err
	}
	for _, pattern := range patterns {
		below, ok := strings.CutPrefix(pattern, m.Path)
		if !ok {
			return fmt.Errorf("onload: %s is not in the module %s", pattern, m.Path)
		}
		if err := p.addLinked(own, below); err != nil {
			return err
		}
	}
	return nil
}

// linkBeside makes the folders that lead to the last of names, below to. What else is
// there below from is linked, but for modules, each of which has an @ in its name: the
// go command does not look into a module that is a link, and extracts it again.
func linkBeside(from, to string, names []string) error {
	for _, name := range names[:len(names)-1] {
		if err := linkAll(from, to, name); err != nil {
			return err
		}
		from, to = filepath.Join(from, name), filepath.Join(to, name)
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	}
	return linkAll(from, to, names[len(names)-1])
}

func linkAll(from, to, except string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == except || strings.Contains(e.Name(), "@") {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// addLinked adds the file to the main packages of a pattern, which is the part of it
// below the module dir.
func (p *prepared) addLinked(dir, pattern string) error {
	if below, all := strings.CutSuffix(pattern, "..."); all {
		return filepath.WalkDir(filepath.Join(dir, filepath.FromSlash(below)), func(at string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return p.addLinkedTo(at)
		})
	}
	return p.addLinkedTo(filepath.Join(dir, filepath.FromSlash(pattern)))
}

func (p *prepared) addLinkedTo(dir string) error {
	c := build.Default
	c.GOOS, c.GOARCH, c.BuildTags = p.g.OS, p.g.Arch, strings.Split(withTag(p.tags), ",")
	if pkg, err := c.ImportDir(dir, 0); err != nil || pkg.Name != "main" {
		return nil // the go command says what is wrong with it
	}
	return os.WriteFile(filepath.Join(dir, linked), linkedText("main"), 0o644)
}
