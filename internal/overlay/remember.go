package overlay

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// memory is what a file of the cache says about a GOROOT that was made: its folder,
// and the files that it was made of. While these are as they were nothing has to be
// listed, parsed or read to find it again.
type memory struct {
	Dir  string
	From map[string]stamp
}

// stamp is by what a change of a file or folder is noticed, as the go command does.
type stamp struct {
	Changed int64 // the time of the last change, in ns since 1970
	Size    int64 // 0 for a folder
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return stamp{}, err
	case info.IsDir():
		return stamp{Changed: info.ModTime().UnixNano()}, nil
	}
	return stamp{info.ModTime().UnixNano(), info.Size()}, nil
}

// memoryFile is where the cache has what is remembered of g's GOROOT.
func memoryFile(g Go, cache string) string {
	h := sha256.Sum256(fmt.Append(nil, g.Root, "\n", g.Version, "\n", g.OS, "\n", g.Arch, "\n"))
	return filepath.Join(cache, hex.EncodeToString(h[:8])+".json")
}

// remembered returns the folder that file says, if all is as it was.
func remembered(file string) (dir string, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	var m memory
	if json.Unmarshal(text, &m) != nil || len(m.From) == 0 {
		return "", false
	}
	for path, was := range m.From {
		if now, err := stampOf(path); err != nil || now != was {
			return "", false
		}
	}
	if _, err := os.Stat(m.Dir); err != nil {
		return "", false
	}
	return m.Dir, true
}

// madeFrom returns the stamps of all that a GOROOT depends on: this program, the
// toolchain's net, and the packages of own. settled: none of them has changed just
// now, when another change would not be seen by the time.
func madeFrom(g Go, own *Source) (from map[string]stamp, settled bool, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, false, err
	}
	paths := append([]string{program, filepath.Join(g.Root, "VERSION")}, own.Decides...)
	for _, dir := range append(slices.Collect(maps.Values(own.Packages)), filepath.Join(g.Root, "src", "net")) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, false, err
		}
		paths = append(paths, dir)
		for _, e := range entries {
			if name := e.Name(); e.Type().IsRegular() && !strings.HasSuffix(name, "_test.go") {
				paths = append(paths, filepath.Join(dir, name))
			}
		}
	}
	from = map[string]stamp{}
	settled = true
	limit := time.Now().Add(-coarsest).UnixNano()
	for _, path := range paths {
		s, err := stampOf(path)
		if err != nil {
			return nil, false, err
		}
		from[path] = s
		settled = settled && s.Changed < limit
	}
	return from, settled, nil
}

// coarsest is how coarse file systems' times are, as the go command assumes.
const coarsest = 2 * time.Second

// unused is for how long something of the cache is kept that no build has used. The
// go command keeps its own as long.
const unused = 5 * 24 * time.Hour

// use notes that a build uses path now.
func use(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // of somebody else: it is then removed sooner
}

// trim removes what lies in a folder of the cache and has not been used for long.
func trim(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > unused {
			removeAll(filepath.Join(dir, e.Name()))
		}
	}
}

// removeAll is os.RemoveAll, also of read-only folders.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o755)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
