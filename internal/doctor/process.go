package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/onload-go/onload/internal/cgroup"
)

// proc is the folder of the process that counts.
func (p *patient) proc(file string) string {
	if p.PID != 0 {
		return fmt.Sprintf("proc/%d/%s", p.PID, file)
	}
	return "proc/self/" + file
}

// status returns a line of /proc/PID/status.
func (p *patient) status(name string) string {
	for line := range strings.Lines(p.read(p.proc("status"))) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// process looks at the privileges and limits of the process that counts.
func (p *patient) process() {
	p.privileges()
	// The first one has all users, in one line.
	if mapped := strings.Fields(p.read(p.proc("uid_map"))); len(mapped) >= 3 && mapped[2] != "4294967295" && !p.brokered() {
		p.find(Broken, "user-namespace", "", "The process is in a user namespace, whose capabilities do not count for BPF and AF_XDP: run it in the first one, or behind onload broker.")
	}
	if p.status("Seccomp") == "2" {
		p.find(Note, "seccomp", "", "A seccomp filter is on: it has to let bpf, and socket with AF_XDP and AF_NETLINK, pass.")
	}
	p.limits()
}

// privileges looks at capabilities and locked memory.
func (p *patient) privileges() {
	set, err := strconv.ParseUint(p.status("CapEff"), 16, 64)
	if err != nil {
		return
	}
	whose, mend := "this process", setcap+"PROGRAM"
	if p.PID != 0 {
		whose = fmt.Sprintf("process %d", p.PID)
	}
	if p.Program != nil {
		mend = setcap + quoted(p.Path)
	}
	if p.Program != nil && p.PID == 0 {
		whose, set = p.Path, p.given(set)
	}
	brokered := p.brokered()
	var lacks, why []string
	worst := Note
	for _, c := range needed {
		if has(set, c.bit) || c.s == Note || brokered {
			continue
		}
		if lacks, why = append(lacks, c.name), append(why, c.why); worst != Broken {
			worst = c.s
		}
	}
	if len(lacks) > 0 {
		p.find(worst, "capabilities", whose, fmt.Sprintf("%s has no %s (%s).", whose, strings.Join(lacks, ", "), strings.Join(why, "; ")), mend)
	}
	p.memlock(has(set, 14), whose) // CAP_IPC_LOCK
}

// given are the capabilities that the program would have, started by a process like this
// one, which has the set own: execve gives root all of its bounds, and others those of the
// file, or else the ambient ones.
func (p *patient) given(own uint64) uint64 {
	uids := strings.Fields(p.status("Uid")) // real, effective
	ambient, err := strconv.ParseUint(p.status("CapAmb"), 16, 64)
	switch {
	case len(uids) < 2 || err != nil:
		return own | p.Program.capabilities // an old kernel, which does not tell
	case uids[1] == "0":
		return own
	case p.Program.capabilities != 0:
		return p.Program.capabilities
	}
	return ambient
}

// enoughLocked is the packet memory that an interface takes by itself.
const enoughLocked = 64 << 20

func (p *patient) memlock(unlimited bool, whose string) {
	if unlimited {
		return
	}
	for line := range strings.Lines(p.read(p.proc("limits"))) {
		rest, ok := strings.CutPrefix(line, "Max locked memory")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil || n >= enoughLocked {
			return // unlimited
		}
		mend := "ulimit -l unlimited"
		if p.PID != 0 {
			mend = fmt.Sprintf("prlimit --pid %d --memlock=unlimited", p.PID)
		}
		p.find(Slower, "memlock", whose, fmt.Sprintf("Packet memory has at most %d KiB (RLIMIT_MEMLOCK): interfaces get fewer frames.", n>>10), mend)
	}
}

// limits looks at the cgroups.
func (p *patient) limits() {
	own := cgroup.ParseMembership([]byte(p.read(p.proc("cgroup"))))
	mounts := cgroup.ParseMounts([]byte(p.read(p.proc("mountinfo"))))
	for _, dir := range cgroup.Dirs(p.Root, mounts, own, "cpu") {
		quota, period, _ := strings.Cut(p.read(strings.TrimPrefix(dir, p.Root)+"/cpu.max"), " ")
		file := dir + "/cpu.max"
		whole := period + " " + period
		if quota == "" {
			quota, period = p.read(strings.TrimPrefix(dir, p.Root)+"/cpu.cfs_quota_us"), p.read(strings.TrimPrefix(dir, p.Root)+"/cpu.cfs_period_us")
			file, whole = dir+"/cpu.cfs_quota_us", period
		}
		q, err := strconv.ParseFloat(quota, 64)
		per, err2 := strconv.ParseFloat(period, 64)
		if err == nil && err2 == nil && q > 0 && q < per {
			p.find(Slower, "cpu-quota", dir, fmt.Sprintf("Cgroup %s has %.2f of a processor: goroutines that spin use it up, so the profile balanced hardly spins.", dir, q/per), fmt.Sprintf("echo %s > %s", whole, quoted(file)))
		}
	}
	for _, dir := range cgroup.Dirs(p.Root, mounts, own, "memory") {
		for _, name := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			n, err := strconv.ParseInt(p.read(strings.TrimPrefix(dir, p.Root)+"/"+name), 10, 64)
			if err == nil && n > 0 && n/4 < enoughLocked {
				p.find(Slower, "memory-limit", dir, fmt.Sprintf("Cgroup %s has a limit of %d MiB: packet memory takes at most a quarter of what is left, 64 MiB is what an interface takes by itself.", dir, n>>20), fmt.Sprintf("echo %d > %s", 4*enoughLocked, quoted(dir+"/"+name)))
			}
		}
	}
}
