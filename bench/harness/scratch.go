package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// scratchPrefix begins the names of folders and cgroups that last as long as
// the process that made them, whose number follows.
const scratchPrefix = "onload-bench-pid"

func ownPattern() string { return scratchPrefix + strconv.Itoa(os.Getpid()) + "-" }

// Scratch makes a folder for files of this run, which the caller removes. It
// removes those of processes that were killed before they could.
func Scratch() (string, error) {
	sweep(os.TempDir(), os.RemoveAll)
	return os.MkdirTemp("", ownPattern())
}

// sweep removes the leftovers of processes that have ended.
func sweep(root string, remove func(string) error) {
	l, _ := filepath.Glob(filepath.Join(root, scratchPrefix+"*"))
	for _, path := range l {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), scratchPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = remove(path) // or the next one does
		}
	}
}
