package doctor

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
)

// room is a pair of namespaces, a program and an environment in which one thing is wrong.
type room struct {
	*lab.Pair
	t *testing.T
	c Config
}

// run runs a command in the first namespace, with the room's environment, which it may
// change.
func (r *room) run(command string) {
	r.t.Helper()
	c := r.A.Command("sh", "-c", command+" && env -0")
	c.Env = append(slices.Clone(r.c.Environ), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		r.t.Fatalf("%s: %v: %s", command, err, said.String())
	}
	if i := bytes.LastIndexByte(bytes.TrimSuffix(out, []byte{0}), '\n'); i >= 0 {
		out = out[i+1:] // what the command said itself
	}
	r.c.Environ = strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// file writes a file of the room's machine.
func (r *room) file(path, text string) {
	r.t.Helper()
	if r.c.Root == "" {
		r.c.Root = r.t.TempDir()
	}
	path = filepath.Join(r.c.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// program is a copy of this test, which is a Go program that has onload.
func (r *room) program() {
	r.t.Helper()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	r.c.Path = filepath.Join(r.t.TempDir(), "server")
	in, err := os.ReadFile(self)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.c.Path, in, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// examine looks at the room. It returns the findings with an ID.
func (r *room) examine(id string) (l []Finding) {
	r.t.Helper()
	err := r.A.Do(func() error {
		report := Examine(r.c)
		for _, f := range report.Findings {
			if f.ID == id {
				l = append(l, f)
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// set sets a variable of the environment.
func (r *room) set(kv string) {
	name, _, _ := strings.Cut(kv, "=")
	r.c.Environ = slices.DeleteFunc(r.c.Environ, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	r.c.Environ = append(r.c.Environ, kv)
}

// xdp attaches a program of that name.
func (r *room) xdp(name string, flags int) {
	r.t.Helper()
	p := loaded(r.t, name, ebpf.XDP, 2) // XDP_PASS
	defer p.Close()
	l, err := r.A.Netlink().LinkByName(r.A.If)
	if err == nil {
		err = r.A.Do(func() error { return netlink.LinkSetXdpFdWithFlags(l, p.FD(), flags) })
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// loaded is a program that only returns a number.
func loaded(t *testing.T, name string, kind ebpf.ProgramType, returns int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: kind, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, returns), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// filter puts a program of tc's on what comes in.
func (r *room) filter() {
	r.t.Helper()
	r.run("tc qdisc add dev " + r.A.If + " clsact")
	p := loaded(r.t, "watcher", ebpf.SchedCLS, -1)
	defer p.Close()
	l, err := r.A.Netlink().LinkByName(r.A.If)
	if err == nil {
		err = r.A.Netlink().FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL},
			Fd:          p.FD(), Name: "watcher", DirectAction: true,
		})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// poor is a process of nobody's with little locked memory.
func (r *room) poor() {
	r.t.Helper()
	c := r.A.Command("sh", "-c", "ulimit -l 64; exec setpriv --reuid=65534 --regid=65534 --clear-groups cat")
	in, err := c.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = in.Close(); _ = c.Wait() })
	if _, err := in.Write([]byte("\n")); err != nil {
		r.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is what it is to be
		r.t.Fatal(err)
	}
	r.c.PID = c.Process.Pid
}

const cgroups = "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 none rw\n"

// wrongs are things that are wrong. says is in what the doctor says.
var wrongs = []struct {
	id, says string
	make     func(*room)
}{
	{"link-down", "is down", func(r *room) { r.run("ip link set " + r.A.If + " down") }},
	{"foreign-xdp", "libxdp's dispatcher (generic", func(r *room) { r.xdp("xdp_dispatcher", unix.XDP_FLAGS_SKB_MODE) }},
	{"setting", "ONLOAD_INTERFACES", func(r *room) { r.set("ONLOAD_INTERFACE=eth0") }},
	{"no-address", "no address", func(r *room) { r.run("ip address flush dev " + r.A.If) }},
	{"capabilities", "cap_bpf", func(r *room) { r.program(); r.file("proc/self/status", "CapEff:\t0000000000000000\n") }},
	{"no-interfaces", "names none", func(r *room) { r.set("ONLOAD_INTERFACES=") }},
	{"tso-off", "does not segment", func(r *room) { r.run("ethtool -K " + r.A.If + " tso off") }},
	{"cpu-quota", "0.20 of a processor", func(r *room) {
		r.file("proc/self/cgroup", "0::/job\n")
		r.file("proc/self/mountinfo", cgroups)
		r.file("sys/fs/cgroup/job/cpu.max", "20000 100000\n")
	}},
	{"enslaved", "bridge br0", func(r *room) {
		r.run("ip link add br0 type bridge && ip link set " + r.A.If + " master br0")
	}},
	{"memory-limit", "100 MiB", func(r *room) {
		r.file("proc/self/cgroup", "0::/job\n")
		r.file("proc/self/mountinfo", cgroups)
		r.file("sys/fs/cgroup/job/memory.max", fmt.Sprintln(100<<20))
	}},
	// From here on with -long.
	{"foreign-xdp", "of watch_me", func(r *room) { r.xdp("watch_me", unix.XDP_FLAGS_SKB_MODE) }},
	{"no-arp", "NOARP", func(r *room) { r.run("ip link set " + r.A.If + " arp off") }},
	{"small-mtu", "1000", func(r *room) { r.run("ip link set " + r.A.If + " mtu 1000") }},
	{"checksum-off", "does not complete checksums", func(r *room) { r.run("ethtool -K " + r.A.If + " tx off") }},
	{"queues", "uses 1 of its 2", func(r *room) { r.run("ethtool -L " + r.A.If + " rx 1") }},
	{"qdisc", "tbf", func(r *room) { r.run("tc qdisc add dev " + r.A.If + " root tbf rate 1mbit burst 10k latency 10ms") }},
	{"no-ipv6", "turned off", func(r *room) { r.run("sysctl -qw net.ipv6.conf." + r.A.If + ".disable_ipv6=1") }},
	{"rp-filter", "rp_filter 1", func(r *room) { r.run("sysctl -qw net.ipv4.conf." + r.A.If + ".rp_filter=1") }},
	{"rp-filter", "v.5 takes packets only", func(r *room) {
		if err := r.A.Rename("v.5"); err != nil {
			r.t.Fatal(err)
		}
		r.set("ONLOAD_INTERFACES=v.5")
		r.run("sysctl -qw net/ipv4/conf/v.5/rp_filter=1")
	}},
	{"capabilities", "cap_bpf", func(r *room) {
		r.program()
		r.file("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t000001ffffffffff\nCapAmb:\t0000000000000000\n")
	}},
	{"cpu-quota", "0.50 of a processor", func(r *room) {
		r.file("proc/self/cgroup", "0::/app-a\\x2db.scope\n")
		r.file("proc/self/mountinfo", cgroups)
		r.file("sys/fs/cgroup/app-a\\x2db.scope/cpu.max", "50000 100000\n")
	}},
	{"port-range", "none is left", func(r *room) { r.run(`sysctl -qw net.ipv4.ip_local_port_range="1024 65535"`) }},
	{"few-ports", "Only 11", func(r *room) { r.run(`sysctl -qw net.ipv4.ip_local_port_range="40000 40010"`) }},
	{"setting", "latency", func(r *room) { r.set("ONLOAD_PROFILE=fast") }},
	{"off", "plain one", func(r *room) { r.set("ONLOAD=off") }},
	{"broker", "no such file", func(r *room) { r.set("ONLOAD_BROKER=/nowhere/broker.sock") }},
	{"generic", "slower", func(r *room) { r.set("ONLOAD_XDP_MODE=generic") }},
	{"loopback", "always the kernel's", func(r *room) { r.set("ONLOAD_INTERFACES=lo") }},
	{"no-such-interface", "eth99", func(r *room) { r.set("ONLOAD_INTERFACES=eth99") }},
	{"not-executable", "not executable", func(r *room) {
		r.program()
		if err := os.Chmod(r.c.Path, 0o644); err != nil {
			r.t.Fatal(err)
		}
	}},
}

// few is how many of the wrongs are tried without -long.
const few = 10

// newRoom is a room in which nothing is wrong.
func newRoom(t *testing.T) *room {
	t.Helper()
	p, err := lab.MakePair(lab.Options{Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return &room{p, t, Config{Environ: []string{"ONLOAD_INTERFACES=" + p.A.If}}}
}

// TestMend: the doctor names what is wrong, and typing what it says mends that: a command
// is the last word of the doctor.
func TestMend(t *testing.T) {
	lab.NeedRoot(t)
	for _, tool := range []string{"ip", "tc", "ethtool", "sysctl", "setcap", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(t, "%s (apt-get install iproute2 ethtool procps libcap2-bin util-linux)", tool)
		}
	}
	for _, w := range wrongs[:testlong.Pick(few, len(wrongs))] {
		t.Run(w.id+" "+w.says, func(t *testing.T) {
			r := newRoom(t)
			if l := r.examine(w.id); len(l) != 0 {
				t.Fatalf("before anything is wrong: %+v", l)
			}
			w.make(r)
			l := r.examine(w.id)
			if len(l) != 1 || !strings.Contains(l[0].Says, w.says) || len(l[0].Type) == 0 {
				t.Fatalf("the doctor says: %+v", l)
			}
			r.run(strings.ReplaceAll(l[0].Type[0], "ADDRESS/BITS", "192.0.2.7/24"))
			if l := r.examine(w.id); len(l) != 0 {
				t.Errorf("after %s the doctor says: %+v", l[0].Type[0], l)
			}
		})
	}
}

// TestNamed: what no command mends is named all the same.
func TestNamed(t *testing.T) {
	lab.NeedRoot(t)
	r := newRoom(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	golang, err := exec.LookPath("go")
	if err != nil {
		need.Missing(t, "go in PATH")
	}
	clean := r.c
	for _, c := range []struct {
		id, says string
		make     func()
	}{
		{"kernel-version", "6.6", func() { r.file("proc/sys/kernel/osrelease", "5.15.0-91-generic\n") }},
		{"kernel-config", "CONFIG_XDP_SOCKETS", func() {
			r.file("proc/sys/kernel/osrelease", "6.12.1\n")
			r.file("boot/config-6.12.1", "CONFIG_BPF_SYSCALL=y\nCONFIG_NET_CLS_ACT=y\nCONFIG_BPF_JIT=y\n# CONFIG_XDP_SOCKETS is not set\n")
		}},
		{"bpf-jit", "interpreted", func() { r.file("proc/sys/net/core/bpf_jit_enable", "0\n") }},
		{"lockdown", "locked down", func() { r.file("sys/kernel/security/lockdown", "none integrity [confidentiality]\n") }},
		{"huge-pages", "small pages", func() {
			r.file("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
			r.file("proc/sys/vm/nr_hugepages", "0\n")
		}},
		{"bpffs", "BPF file system", func() { r.file("proc/self/mountinfo", cgroups) }},
		{"user-namespace", "user namespace", func() { r.file("proc/self/uid_map", "0 1000 1\n") }},
		{"user-namespace", "user namespace", func() { r.file("proc/self/uid_map", "0 1000 1\n1 100000 65536\n") }}, // rootless
		{"seccomp", "seccomp", func() { r.file("proc/self/status", "CapEff:\t000001ffffffffff\nSeccomp:\t2\n") }},
		{"napi", "gro_flush_timeout", func() {
			r.file("sys/class/net/"+r.A.If+"/napi_defer_hard_irqs", "2\n")
			r.file("sys/class/net/"+r.A.If+"/gro_flush_timeout", "200000\n")
		}},
		{"memlock", "64 KiB", r.poor}, // only CAP_SYS_RESOURCE raises the limit again
		{"affinity", "processor", func() {
			r.file("sys/class/net/"+r.A.If+"/device/numa_node", "1\n")
			r.file("sys/devices/system/cpu/online", "0-127\n")
			r.file("sys/devices/system/node/node0/cpulist", "0-63\n")
			r.file("sys/devices/system/node/node1/cpulist", "64-127\n")
			r.file("proc/interrupts", "")
		}},
		{"no-program", "cannot be read", func() { r.c.Path = filepath.Join(dir, "nothing") }},
		{"not-elf", "script", func() { r.c.Path = script }},
		{"not-go", "no Go program", func() { r.c.Path = "/bin/true" }},
		{"plain-go", "plain Go program", func() { r.c.Path = golang }},
		// What breaks hosts is not what the doctor says to type.
		{"forwarding", "forwards", func() { r.run("sysctl -qw net.ipv4.ip_forward=1") }},
		{"tc-filters", "watcher", r.filter},
		{"foreign-xdp", "Cilium (native", func() { r.xdp("cil_xdp_entry", unix.XDP_FLAGS_DRV_MODE) }},
		{"no-carrier", "no carrier", func() {
			if err := r.B.SetDown(); err != nil {
				t.Fatal(err)
			}
		}},
		{"nftables", "ct state", func() {
			if _, err := exec.LookPath("nft"); err != nil {
				need.Missing(t, "nft (apt-get install nftables)")
			}
			r.run("nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in ct state established accept'")
		}},
	} {
		r.c = clean
		c.make()
		l := r.examine(c.id)
		if len(l) != 1 || !strings.Contains(l[0].Says, c.says) {
			t.Errorf("%s: the doctor says: %+v", c.id, l)
			continue
		}
		if words := strings.Join(l[0].Type, "; "); breaks.MatchString(words) {
			t.Errorf("%s: the doctor has one type %s", c.id, words)
		}
	}
}

// breaks are commands that take hosts or their containers off the network.
var breaks = regexp.MustCompile(`nomaster|forwarding=0|clsact|xdp\w* off|^rm `)

// TestText: the page names the interface, what is wrong and what to type.
func TestText(t *testing.T) {
	r := Report{Kernel: "6.12.1", Interfaces: []Interface{{Name: "eth0", Driver: "ice", Native: true, ZeroCopy: true, Queues: 4, MTU: 1500, Verdict: "accelerated"}}}
	r.RoundTrip = &RoundTrip{Kernel: 50, Onload: 6}
	var page strings.Builder
	if err := r.WriteText(&page); err != nil || !strings.Contains(page.String(), "Nothing is wrong") {
		t.Error(page.String(), err)
	}
	r.Findings = []Finding{{"link-down", Broken, "eth0", "eth0 is down.", []string{"ip link set dev eth0 up"}}}
	page.Reset()
	const want = `Linux 6.12.1
eth0: accelerated (driver ice, native XDP, zero-copy, 4 queues, MTU 1500)
a TCP round trip on a veth pair of its own: 6.0 us, the kernel's 50.0 us

broken  eth0 is down. [link-down]
        $ ip link set dev eth0 up
`
	if err := r.WriteText(&page); err != nil || page.String() != want {
		t.Errorf("%s%v", page.String(), err)
	}
}

// TestQuoted: a path in a command is one word for a shell.
func TestQuoted(t *testing.T) {
	for _, s := range []string{"a", "a b", "it's", `$(x) "y" \z`, "", "a;b", "~/x"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quoted(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q: %v", s, out, err)
		}
	}
}
