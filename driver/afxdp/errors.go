package afxdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrCorrupt is what breaks a queue whose rings hold something impossible:
// a descriptor outside the arena, or a frame that the kernel did not have.
var ErrCorrupt = errors.New("afxdp: corrupt descriptor in a ring")

// A ProgramError tells that somebody else's XDP program is on the interface.
type ProgramError struct {
	Interface string
	ID        uint32
	Name      string // empty where it may not be read
	Mode      string // "native", "generic", "offloaded"
	PID       int    // a process that holds it, 0 where unknown
	Process   string // its name
	Err       error
}

// Error names the program and says what to do.
func (e *ProgramError) Error() string {
	name, todo := "of unknown name", fmt.Sprintf("run \"ip link set dev %s xdp off\"", e.Interface)
	if e.Name != "" {
		name = strconv.Quote(e.Name)
	}
	if e.PID != 0 {
		todo = fmt.Sprintf("stop process %d (%s), which holds it", e.PID, e.Process)
	}
	return fmt.Sprintf("afxdp: interface %s already has XDP program %d (%s, %s mode), and takes only one: "+
		"%s, or use another interface: %v", e.Interface, e.ID, name, e.Mode, todo, e.Err)
}

// Unwrap returns the kernel's errno.
func (e *ProgramError) Unwrap() error { return e.Err }

func foreignProgram(l *linkInfo) error {
	e := &ProgramError{Interface: l.name, ID: l.prog, Mode: l.progMode, Err: unix.EBUSY}
	if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(l.prog)); err == nil {
		if info, err := p.Info(); err == nil {
			e.Name = info.Name
		}
		p.Close()
	}
	e.PID, e.Process = programHolder(l.prog)
	return e
}

// programHolder finds a process that has the program, or a link with it, open.
func programHolder(id uint32) (pid int, name string) {
	want := fmt.Sprintf("\nprog_id:\t%d\n", id)
	infos, err := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	if err != nil {
		return 0, ""
	}
	for _, f := range infos {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), want) {
			return process(f)
		}
	}
	return 0, ""
}

// process names the process that a file below /proc belongs to.
func process(path string) (pid int, name string) {
	pid, err := strconv.Atoi(strings.Split(path, "/")[2])
	if err != nil {
		return 0, ""
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return pid, "?"
	}
	return pid, strings.TrimSpace(string(comm))
}

// A QueueError tells that a queue of the interface belongs to another socket.
type QueueError struct {
	Interface string
	Queue     int
	PID       int    // holder, 0 where unknown
	Process   string // its name
	Err       error
}

// Error names the holder where it is known.
func (e *QueueError) Error() string {
	who := "another AF_XDP socket (its process cannot be seen from here)"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d (%s)", e.PID, e.Process)
	}
	return fmt.Sprintf("afxdp: queue %d of %s is taken by %s: choose other queues: %v", e.Queue, e.Interface, who, e.Err)
}

// Unwrap returns the kernel's errno.
func (e *QueueError) Unwrap() error { return e.Err }

func busyQueue(l *linkInfo, queue int) error {
	e := &QueueError{Interface: l.name, Queue: queue, Err: unix.EBUSY}
	if ino := queueHolder(l.index, queue); ino != 0 {
		e.PID, e.Process = socketOwner(ino)
	}
	return e
}

// queueHolder asks the kernel for the inode of the AF_XDP socket that is
// bound to the queue; 0 where it cannot tell.
func queueHolder(ifindex, queue int) (inode uint32) {
	const (
		showInfo = 1 << 0
		diagInfo = 1
		msgLen   = 16
	)
	req := make([]byte, 20) // struct xdp_diag_req
	req[0] = unix.AF_XDP
	native.PutUint32(req[8:], showInfo)
	msgs, err := nlQuery(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, req)
	if err != nil {
		return 0
	}
	for _, m := range msgs {
		if len(m) < msgLen {
			continue
		}
		nlAttrs(m[msgLen:], func(typ uint16, v []byte) {
			if typ == diagInfo && len(v) >= 8 && int(native.Uint32(v)) == ifindex && int(native.Uint32(v[4:])) == queue {
				inode = native.Uint32(m[4:])
			}
		})
	}
	return inode
}

// socketOwner finds a process that has the socket open.
func socketOwner(inode uint32) (pid int, name string) {
	want := fmt.Sprintf("socket:[%d]", inode)
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, ""
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != want {
			continue
		}
		return process(fd)
	}
	return 0, ""
}

// A lockError is the kernel's refusal to lock packet memory for a process
// without CAP_IPC_LOCK.
type lockError struct {
	Bytes int
	Err   error
}

// Error names the limit and the ways out.
func (e *lockError) Error() string {
	return fmt.Sprintf("afxdp: locking %d KiB of packet memory: RLIMIT_MEMLOCK is %s for all processes of this user together: "+
		"raise it (ulimit -l, LimitMEMLOCK=), grant CAP_IPC_LOCK, or ask for fewer frames (ONLOAD_FRAMES): %v", e.Bytes>>10, e.limit(), e.Err)
}

// Unwrap returns the kernel's errno.
func (e *lockError) Unwrap() error { return e.Err }

// limit is RLIMIT_MEMLOCK in words.
func (e *lockError) limit() string {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return "unknown"
	}
	if l.Cur == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprintf("%d KiB", l.Cur>>10)
}

// refusedProgram explains why the verifier refused the program.
func refusedProgram(err error) error {
	if lacks(unix.CAP_PERFMON) {
		return fmt.Errorf("afxdp: this kernel refused the XDP program of a process that lacks CAP_PERFMON, "+
			"from which later ones (Linux 6.6) accept it: %w", err)
	}
	return fmt.Errorf("afxdp: this kernel refused the XDP program (Linux 5.18 or later is needed): %w", err)
}

// lacks reports whether the process is without the capability.
func lacks(capability int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) == 0
}

var capNames = map[int]string{
	unix.CAP_NET_ADMIN: "CAP_NET_ADMIN",
	unix.CAP_NET_RAW:   "CAP_NET_RAW",
	unix.CAP_BPF:       "CAP_BPF",
	unix.CAP_IPC_LOCK:  "CAP_IPC_LOCK",
}

// denied explains err of a step that wants the capabilities, and leaves other
// errors as they are.
func denied(step string, err error, wants ...int) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("afxdp: %s: %w", step, err)
	}
	var missing []string
	for _, c := range wants {
		if lacks(c) {
			missing = append(missing, capNames[c])
		}
	}
	if len(missing) == 0 {
		return fmt.Errorf("afxdp: %s: refused although this process has the capabilities "+
			"(held only in a user namespace, or a seccomp filter or kernel lockdown forbids it): %w", step, err)
	}
	// The errno alone: what the libraries add about RLIMIT_MEMLOCK leads astray.
	if errno := unix.Errno(0); errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("afxdp: %s: this process lacks %s: %w", step, strings.Join(missing, ", "), err)
}
