package doctor

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is an executable file.
type Program struct {
	Path    string `json:"path"`
	Go      string `json:"go,omitempty"`     // version; empty: no program of Go's
	Onload  string `json:"onload,omitempty"` // "built" by onload build, "imported"; empty: neither
	Static  bool   `json:"static"`
	Version string `json:"version,omitempty"` // of the library

	capabilities uint64 // of the file
}

const module = "github.com/onload-go/onload"

// program looks at the executable file.
func (p *patient) program() {
	path := p.Path
	if path == "" {
		return
	}
	st, err := os.Stat(path)
	if err != nil {
		p.find(Broken, "no-program", path, fmt.Sprintf("%s cannot be read: %v.", path, errors.Unwrap(err)))
		return
	}
	p.Program = &Program{Path: path, capabilities: fileCapabilities(path)}
	if st.Mode()&0o111 == 0 {
		p.find(Broken, "not-executable", path, path+" is not executable.", "chmod +x "+quoted(path))
	}
	f, err := elf.Open(path)
	if err != nil {
		p.find(Broken, "not-elf", path, path+" is no program, but perhaps a script: look at the program that runs it.")
		return
	}
	defer f.Close()
	p.Program.Static = !slices.ContainsFunc(f.Progs, func(s *elf.Prog) bool { return s.Type == elf.PT_INTERP })
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		p.find(Broken, "not-go", path, path+" is no Go program: Onload for Go cannot carry its sockets.")
		return
	}
	p.Program.Go = info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "onload") {
			p.Program.Onload = "built"
		}
	}
	for _, d := range append(info.Deps, &info.Main) {
		if d.Path == module {
			p.Program.Version = d.Version
			if p.Program.Onload == "" {
				p.Program.Onload = "imported"
			}
		}
	}
	if p.Program.Onload == "" {
		p.find(Broken, "plain-go", path, path+" is a plain Go program: neither onload build made it, nor does it import onload.", "onload build -o "+quoted(path)+" "+info.Path)
	}
}

// fileCapabilities are the permitted and effective capabilities that a file gives
// (struct vfs_cap_data of linux/capability.h): 0 where it gives none.
func fileCapabilities(path string) uint64 {
	b := make([]byte, 24)
	n, err := unix.Getxattr(path, "security.capability", b)
	if err != nil || n < 20 || b[0]&1 == 0 { // VFS_CAP_FLAGS_EFFECTIVE
		return 0
	}
	return uint64(binary.LittleEndian.Uint32(b[4:])) | uint64(binary.LittleEndian.Uint32(b[12:]))<<32
}
