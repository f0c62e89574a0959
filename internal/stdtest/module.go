package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modulePackage is a package of a module.
type modulePackage struct {
	module string // with its version
	folder string // below the module's root
}

// inModule takes apart the name of a module's package, PATH@VERSION/FOLDER.
func inModule(pkg string) (m modulePackage, ok bool) {
	path, rest, ok := strings.Cut(pkg, "@")
	version, folder, _ := strings.Cut(rest, "/")
	return modulePackage{path + "@" + version, filepath.FromSlash(folder)}, ok
}

// copyTo downloads the module and copies it into a new folder below dir: to a package in
// its cache the go command adds no file.
func (m modulePackage) copyTo(dir string) (root string, err error) {
	c := exec.Command("go", "mod", "download", "-json", m.module)
	c.Dir = dir // in no module
	out, err := c.Output()
	var there struct{ Dir, Error string }
	if jerr := json.Unmarshal(out, &there); jerr != nil || there.Dir == "" {
		return "", fmt.Errorf("module %s: %w %s", m.module, err, there.Error)
	}
	if root, err = os.MkdirTemp(dir, "module"); err != nil {
		return "", err
	}
	return root, os.CopyFS(root, os.DirFS(there.Dir))
}
