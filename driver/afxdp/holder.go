package afxdp

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A holder is a process that keeps an object of the kernel open.
type holder struct {
	PID     int    // 0 where no process is seen
	Process string // its name
}

// own reports whether the holder is this process.
func (h holder) own() bool { return h.PID == os.Getpid() }

// lives reports whether the holder was found and is not about to end, as a killed
// process is.
func (h holder) lives() bool { return h.PID != 0 && !dying(h.PID) }

// findHolder returns the first process with a file below /proc/PID/dir that
// match accepts.
func findHolder(dir string, match func(file string) bool) holder {
	files, err := filepath.Glob("/proc/[0-9]*/" + dir + "/*")
	if err != nil {
		return holder{}
	}
	for _, f := range files {
		if !match(f) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(f, "/")[2])
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			comm = []byte("?")
		}
		return holder{pid, strings.TrimSpace(string(comm))}
	}
	return holder{}
}

// linkHolder finds a process that has the bpf_link by which the program is on
// the interface.
func linkHolder(ifindex int, prog uint32) holder {
	wants := [][]byte{
		[]byte("link_id:\t"),
		fmt.Appendf(nil, "\nprog_id:\t%d\n", prog),
		fmt.Appendf(nil, "\nifindex:\t%d\n", ifindex),
	}
	return findHolder("fdinfo", func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		for _, w := range wants {
			if !bytes.Contains(text, w) {
				return false
			}
		}
		return true
	})
}

// socketHolder finds a process that has the socket.
func socketHolder(inode uint32) holder {
	want := fmt.Sprintf("socket:[%d]", inode)
	return findHolder("fd", func(file string) bool {
		to, err := os.Readlink(file)
		return err == nil && to == want
	})
}

// dying reports whether the process has begun to end, or SIGKILL is on its way
// (proc_pid_stat(5), proc_pid_status(5)).
func dying(pid int) bool {
	const (
		exiting = 0x4 // PF_EXITING of linux/sched.h
		sigkill = 1 << (unix.SIGKILL - 1)
	)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The name, in parentheses, may hold anything. State, parent, group, session,
	// terminal, its group and flags follow.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(string(fields[6]), 10, 32)
	if state := fields[0][0]; state == 'Z' || state == 'X' || flags&exiting != 0 {
		return true
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(status) {
		name, mask, _ := bytes.Cut(line, []byte(":\t"))
		if string(name) != "SigPnd" && string(name) != "ShdPnd" {
			continue
		}
		if pending, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64); err == nil && pending&sigkill != 0 {
			return true
		}
	}
	return false
}

// xdpLink returns the number of the bpf_link by which the program is on the
// interface; 0 if there is none. The kernel answers only with CAP_SYS_ADMIN.
func xdpLink(ifindex int, prog uint32) (id link.ID, err error) {
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil {
			continue
		}
		if x := info.XDP(); x != nil && x.Ifindex == uint32(ifindex) && info.Program == ebpf.ProgramID(prog) {
			return info.ID, nil
		}
	}
	return 0, it.Err()
}

// pinOf searches the bpf filesystems that this process sees for a file that
// keeps the bpf_link.
func pinOf(id link.ID) (path string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		// proc_pid_mounts(5): the device, the mount point, the type of
		// filesystem.
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "bpf" {
			continue
		}
		_ = filepath.WalkDir(f[1], func(file string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			l, err := link.LoadPinnedLink(file, nil)
			if err != nil {
				return nil
			}
			defer l.Close()
			if info, err := l.Info(); err == nil && info.ID == id {
				path = file
				return fs.SkipAll
			}
			return nil
		})
	}
	return path
}
