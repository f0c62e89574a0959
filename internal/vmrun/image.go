package vmrun

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cavaliergopher/cpio"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

// image is an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst)
// that is not compressed: unpacking takes longer than loading in the emulator.
// /dev/console is in the kernel's own.
type image struct {
	w    *cpio.Writer
	seen map[string]bool // folders and files
	err  error
}

func (m *image) add(name string, mode cpio.FileMode, data []byte) {
	name = strings.TrimPrefix(name, "/")
	if m.err != nil || m.seen[name] {
		return
	}
	m.seen[name] = true
	if dir := filepath.Dir(name); dir != "." {
		m.add(dir, cpio.TypeDir|0o755, nil)
	}
	if m.err = m.w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(data))}); m.err == nil {
		_, m.err = m.w.Write(data)
	}
}

func (m *image) file(name string, mode cpio.FileMode, data []byte) {
	m.add(name, cpio.TypeReg|mode, data)
}

func (m *image) copy(name, from string) {
	b, err := os.ReadFile(from)
	if err != nil {
		m.err = err
		return
	}
	m.file(name, 0o755, b)
}

// library is a file in the lines of ldd: "libc.so.6 => /lib/libc.so.6 (0x7f)".
var library = regexp.MustCompile(`(/\S+) \(0x`)

// findProgram returns the path of a program of the host.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // a user's PATH may lack sbin
	}
	return path, err
}

// program adds a program of the host with its libraries.
func (m *image) program(name string) {
	path, err := findProgram(name)
	if err != nil {
		m.err = err
		return
	}
	m.copy("bin/"+filepath.Base(name), path)
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
		m.err = fmt.Errorf("ldd %s: %w: %s", path, err, out)
	}
	for _, l := range library.FindAllStringSubmatch(string(out), -1) {
		m.copy(l[1], l[1])
	}
}

// image writes the initramfs into memory: nothing is left behind if the process is
// killed. The program is a test binary.
func (g Guest) image(k *kernel, nics []nic, initProgram, program []byte, args []string) (*os.File, error) {
	c := protocol.Config{
		Args:      append([]string{"/test"}, args...),
		Env:       []string{"VMRUN=1", "PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp", "CI=" + os.Getenv("CI")},
		Remapping: g.iommu() == "intel",
	}
	if g.TAP {
		c.Env = append(c.Env, "VMRUN_TAP=1")
	}
	if g.Queues > 0 {
		c.Env = append(c.Env, fmt.Sprintf("VMRUN_QUEUES=%d", g.Queues))
	}
	early := []string{"virtio_pci", "virtio_console"}
	if g.iommu() == "virtio" {
		early = append(early, "virtio_iommu")
	}
	late := g.Modules
	for _, n := range nics {
		c.NICs = append(c.NICs, n.NIC)
		switch n.Driver {
		case "vfio":
			early = append(early, "vfio_iommu_type1", "vfio_pci")
		case "kernel":
			late = append(late, models[n.model].module)
		}
	}
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	m := &image{w: cpio.NewWriter(f), seen: map[string]bool{}}
	loaded := map[string]bool{}
	for _, l := range []struct {
		names []string
		order *[]string
	}{{early, &c.Early}, {late, &c.Late}} {
		modules, err := k.load(l.names, loaded)
		if err != nil {
			f.Close()
			return nil, err
		}
		for _, mod := range modules {
			*l.order = append(*l.order, mod.name)
			m.file("modules/"+mod.name, 0o644, mod.data)
		}
	}
	for _, d := range []string{"dev", "proc", "sys", "tmp", "run", "etc"} {
		m.add(d, cpio.TypeDir|0o755, nil)
	}
	m.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/tmp:/\nnobody:x:65534:65534:nobody:/:/\n"))
	m.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	m.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	m.file("init", 0o755, initProgram)
	m.file("test", 0o755, program)
	for _, p := range g.Programs {
		m.program(p)
	}
	b, err := json.Marshal(c)
	if err == nil {
		m.file(protocol.File, 0o644, b)
		err = m.err
	}
	if err == nil {
		err = m.w.Close()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
