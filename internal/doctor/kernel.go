package doctor

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel looks at the kernel's version and configuration.
func (p *patient) kernel() {
	p.Kernel = p.read("proc/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(p.Kernel, "%d.%d", &major, &minor); err == nil && major*100+minor < 606 {
		p.find(Slower, "kernel-version", p.Kernel, "Linux before 6.6 has no AF_XDP with packets of several buffers, and no broker.")
	}
	options := p.kernelConfig()
	for _, o := range []struct {
		name, why string
		s         Severity
	}{
		{"CONFIG_XDP_SOCKETS", "AF_XDP sockets", Broken},
		{"CONFIG_BPF_SYSCALL", "BPF programs", Broken},
		{"CONFIG_NET_CLS_ACT", "packets that are given back to the kernel, and the broker", Slower},
		{"CONFIG_BPF_JIT", "BPF programs as machine code", Slower},
	} {
		if v, ok := options[o.name]; len(options) > 0 && (!ok || v == "n") {
			p.find(o.s, "kernel-config", o.name, fmt.Sprintf("This kernel was built without %s, which it needs for %s: boot another kernel.", o.name, o.why))
		}
	}
	if p.read("proc/sys/net/core/bpf_jit_enable") == "0" {
		p.find(Slower, "bpf-jit", "net.core.bpf_jit_enable", "BPF programs are interpreted, for each packet.", "sysctl -w net.core.bpf_jit_enable=1")
	}
	if lock := p.read("sys/kernel/security/lockdown"); strings.Contains(lock, "[confidentiality]") {
		p.find(Slower, "lockdown", "lockdown", "The kernel is locked down for confidentiality: BPF programs may not read its memory, so some datagrams of kernel peers on virtual links are not received.")
	}
	if p.read("sys/kernel/mm/transparent_hugepage/enabled") == "always madvise [never]" && p.read("proc/sys/vm/nr_hugepages") == "0" {
		p.find(Slower, "huge-pages", "transparent_hugepage", "Packet memory is on small pages, since huge ones are off.", "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
	}
	if !p.mounted("bpf") {
		p.find(Note, "bpffs", "/sys/fs/bpf", "No BPF file system is mounted: onload broker needs one to pass interfaces on to its successor.", "mount -t bpf bpf /sys/fs/bpf")
	}
}

// kernelConfig reads the options that the kernel was built with; empty where they cannot
// be had.
func (p *patient) kernelConfig() map[string]string {
	for _, path := range []string{"proc/config.gz", "boot/config-" + p.Kernel, "lib/modules/" + p.Kernel + "/config"} {
		f, err := os.Open(filepath.Join(p.Root+"/", path))
		if err != nil {
			continue
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(path, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				continue
			}
		}
		options := map[string]string{}
		for s := bufio.NewScanner(r); s.Scan(); {
			if name, v, ok := strings.Cut(s.Text(), "="); ok && strings.HasPrefix(name, "CONFIG_") {
				options[name] = v
			}
		}
		return options
	}
	return nil
}

// mounted reports whether a file system of that type is mounted.
func (p *patient) mounted(kind string) bool {
	return strings.Contains(p.read("proc/self/mountinfo"), " - "+kind+" ")
}

// has reports whether a set of capabilities has one.
func has(set uint64, capability int) bool { return set>>capability&1 != 0 }

// needed are the capabilities that every program needs, and what for.
var needed = []struct {
	bit  int
	name string
	why  string
	s    Severity
}{
	{unix.CAP_NET_ADMIN, "cap_net_admin", "to attach XDP programs", Broken},
	{unix.CAP_NET_RAW, "cap_net_raw", "to open AF_XDP sockets", Broken},
	{unix.CAP_BPF, "cap_bpf", "to load BPF programs", Broken},
	{unix.CAP_IPC_LOCK, "cap_ipc_lock", "for packet memory above RLIMIT_MEMLOCK", Note},
	{unix.CAP_PERFMON, "cap_perfmon", "for an XDP program without fences, 0.2 us a packet", Slower},
}

const setcap = "setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock,cap_perfmon+ep "
