// Package memory says how much memory this process may still take.
package memory

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/onload-go/onload/internal/cgroup"
)

// Free is what may still be taken.
type Free struct {
	Bytes int64  // math.MaxInt64 where nothing is known
	Of    string // what leaves no more, in words
	// Huge is how much is reserved as huge pages, in bytes. It is not part of
	// Bytes: no limit below counts it.
	Huge int64
}

// Read asks the machine and the cgroups that the process is in. An error would
// help nobody: what cannot be read limits nothing.
func Read() Free { return read("") }

// read has root stand for /.
func read(root string) Free {
	f := machine(root)
	membership, _ := os.ReadFile(root + "/proc/self/cgroup")
	mountinfo, _ := os.ReadFile(root + "/proc/self/mountinfo")
	own, mounts := cgroup.ParseMembership(membership), cgroup.ParseMounts(mountinfo)
	for _, dir := range cgroup.Dirs(root, mounts, own, "memory") {
		limit := limitOf(dir)
		if limit == math.MaxInt64 {
			continue
		}
		if left := max(0, limit-used(dir)); left < f.Bytes {
			f.Bytes = left
			f.Of = fmt.Sprintf("cgroup %s has a limit of %d MiB, of which %d are left", strings.TrimPrefix(dir, root), limit>>20, left>>20)
		}
	}
	return f
}

// machine reads /proc/meminfo (proc_meminfo(5)), whose sizes are in KiB.
func machine(root string) Free {
	f := Free{Bytes: math.MaxInt64}
	text, _ := os.ReadFile(root + "/proc/meminfo")
	if kib, ok := field(text, "MemAvailable:"); ok {
		f.Bytes = kib << 10
		f.Of = fmt.Sprintf("the machine has %d MiB left", f.Bytes>>20)
	}
	pages, _ := field(text, "HugePages_Free:")
	size, _ := field(text, "Hugepagesize:")
	if size > 0 && pages <= math.MaxInt64>>10/size {
		f.Huge = pages * size << 10
	}
	return f
}

// limitOf is the least of a cgroup's own limits: memory.max and memory.high of
// version 2 (cgroup-v2.rst), memory.limit_in_bytes of version 1, where none is
// the largest number of pages.
func limitOf(dir string) int64 {
	limit := int64(math.MaxInt64)
	for _, name := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
		if n, ok := number(dir, name); ok && n < 1<<62 {
			limit = min(limit, n)
		}
	}
	return limit
}

// used is what a cgroup holds, without the part of files' pages that the kernel
// would take back first.
func used(dir string) int64 {
	n, ok := number(dir, "memory.current")
	inactive := "inactive_file "
	if !ok {
		n, _ = number(dir, "memory.usage_in_bytes")
		inactive = "total_inactive_file "
	}
	stat, _ := os.ReadFile(dir + "/memory.stat")
	idle, _ := field(stat, inactive)
	return max(0, n-idle)
}

// number reads a file that holds one, or "max".
func number(dir, name string) (n int64, ok bool) {
	text, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil && n >= 0
}

// field reads the number behind a name at the beginning of a line.
func field(text []byte, name string) (n int64, ok bool) {
	for line := range bytes.Lines(text) {
		rest, found := bytes.CutPrefix(line, []byte(name))
		if !found {
			continue
		}
		words := bytes.Fields(rest)
		if len(words) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(string(words[0]), 10, 64)
		return n, err == nil && n >= 0 && n <= math.MaxInt64>>10
	}
	return 0, false
}
