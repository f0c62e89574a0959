package vmrun

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A kernel is a package of Debian's, unpacked.
type kernel struct {
	image   string            // an uncompressed ELF
	modules map[string]string // file by name
	builtin map[string]bool
}

// imageName is the uncompressed kernel in its folder.
const imageName = "vmlinux"

func openKernel(dir string) (*kernel, error) {
	k := &kernel{image: filepath.Join(dir, imageName), modules: map[string]string{}, builtin: map[string]bool{}}
	if _, err := os.Stat(k.image); err != nil {
		return nil, err
	}
	return k, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok {
			k.modules[moduleName(name)] = path
		}
		if d.Name() != "modules.builtin" {
			return nil
		}
		b, err := os.ReadFile(path)
		for file := range strings.FieldsSeq(string(b)) {
			k.builtin[moduleName(strings.TrimSuffix(filepath.Base(file), ".ko"))] = true
		}
		return err
	})
}

// moduleName is the kernel's own name of a module: files have a dash now and then.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// module is a module's name and its ELF file.
type module struct {
	name string
	data []byte
}

// load returns the modules with those that they depend on, in the order of loading,
// less those in loaded, to which they are added. The package has no modules.dep, which
// the installation makes. The modules themselves say what they need.
func (k *kernel) load(names []string, loaded map[string]bool) (all []module, err error) {
	for _, name := range names {
		name = moduleName(name)
		if loaded[name] || k.builtin[name] {
			continue
		}
		loaded[name] = true
		path, ok := k.modules[name]
		if !ok {
			return nil, fmt.Errorf("the guest's kernel has no module %s", name)
		}
		data, err := os.ReadFile(path)
		if err == nil {
			data, err = decompress(data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		needs, err := depends(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		before, err := k.load(needs, loaded)
		if err != nil {
			return nil, err
		}
		all = append(append(all, before...), module{name, data})
	}
	return all, nil
}

// depends reads the module's own list of what it needs.
func depends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for pair := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(pair, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
