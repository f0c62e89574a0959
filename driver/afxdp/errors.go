package afxdp

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/bpf"
)

// ErrCorrupt breaks a queue whose rings hold something impossible: a descriptor
// outside the arena, or a frame that the kernel did not have.
var ErrCorrupt = errors.New("afxdp: corrupt descriptor in a ring")

// A ProgramError says that the interface already has an XDP program, of somebody
// else.
type ProgramError struct {
	Interface string
	ID        uint32
	Name      string // empty where it may not be read
	Mode      string // "native", "generic", "offloaded"
	PID       int    // a process that keeps it attached, 0 where none is seen
	Process   string // its name
	Pin       string // a file in a bpf filesystem that keeps it attached, where there is no process
	Link      uint32 // the bpf_link that attaches it, 0: none, or none that is seen
	Unseen    bool   // this process may not look for a bpf_link
	Err       error
}

// Error names the program and says what to do.
func (e *ProgramError) Error() string {
	name := "of unknown name"
	if e.Name != "" {
		name = strconv.Quote(e.Name)
	}
	return fmt.Sprintf("afxdp: interface %s already has XDP program %d (%s, %s mode), and takes only one: "+
		"%s, or use another interface: %v", e.Interface, e.ID, name, e.Mode, e.remedy(), e.Err)
}

// remedy says how to detach the program. The kernel does not detach a program
// that has a bpf_link, and ip(8) takes the mode from the word alone.
func (e *ProgramError) remedy() string {
	words := map[string]string{"native": "xdpdrv", "generic": "xdpgeneric", "offloaded": "xdpoffload"}
	off := fmt.Sprintf("run \"ip link set dev %s %s off\"", e.Interface, words[e.Mode])
	switch h := (holder{e.PID, e.Process}); {
	case h.own():
		return "close the Engine of this process that has it, or use that one"
	case h.PID != 0:
		return fmt.Sprintf("stop process %d (%s), which keeps it attached", h.PID, h.Process)
	case e.Pin != "":
		return fmt.Sprintf("run \"rm %s\", which keeps it attached", e.Pin)
	case e.Link != 0:
		return fmt.Sprintf("stop what keeps its bpf_link %d, which cannot be seen from here", e.Link)
	case e.Unseen:
		return off + ", or where that is refused stop the process that keeps it attached, which cannot be seen from here"
	}
	return off
}

// Unwrap returns the kernel's errno.
func (e *ProgramError) Unwrap() error { return e.Err }

// patience is how long to wait for a program that may be about to go by itself. The
// kernel forgets a bpf_link before it detaches the program, and cleans up after a
// process some time after its end: seconds, on a busy machine. A program of ours
// always has a link and so a process, or is about to go.
func (e *ProgramError) patience() time.Duration {
	switch h := (holder{e.PID, e.Process}); {
	case h.lives() || e.Pin != "":
		return 0
	case h.PID != 0 || e.Name == bpf.SteerProgOnloadSteer && !e.Unseen:
		return goneWait
	case e.Link != 0 || e.Unseen:
		return busyWait
	}
	return busyWait / 4
}

func foreignProgram(l *linkInfo) *ProgramError {
	e := &ProgramError{Interface: l.name, ID: l.prog, Mode: l.progMode, Err: unix.EBUSY}
	if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(l.prog)); err == nil {
		if info, err := p.Info(); err == nil {
			e.Name = info.Name
		}
		p.Close()
	}
	h := linkHolder(l.index, l.prog)
	if e.PID, e.Process = h.PID, h.Process; h.PID != 0 {
		return e
	}
	id, err := xdpLink(l.index, l.prog)
	if e.Unseen = err != nil; id != 0 {
		e.Link, e.Pin = uint32(id), pinOf(id)
	}
	return e
}

// A ZeroCopyError says why an interface cannot have the zero-copy mode that
// ZeroCopyRequire asks for.
type ZeroCopyError struct {
	Interface string
	Why       string
	Err       error // the kernel's
}

// Error says what to do, too.
func (e *ZeroCopyError) Error() string {
	return fmt.Sprintf("afxdp: interface %s cannot be in zero-copy mode, which ONLOAD_ZEROCOPY=require asks for: %s; "+
		"ONLOAD_ZEROCOPY=auto copies packets where it has to", e.Interface, e.Why)
}

// Unwrap returns the kernel's error.
func (e *ZeroCopyError) Unwrap() error { return e.Err }

// A QueueError says that a queue belongs to another socket.
type QueueError struct {
	Interface string
	Queue     int
	Queues    int    // of the interface
	PID       int    // holder, 0 where unknown
	Process   string // its name
	Err       error
}

// Error names the holder where it is known, and says what to do.
func (e *QueueError) Error() string {
	by, remedy := "another AF_XDP socket, whose process cannot be seen from here", "stop that"
	switch h := (holder{e.PID, e.Process}); {
	case h.own():
		by, remedy = "an Engine of this process", "close that"
	case h.PID != 0:
		by = fmt.Sprintf("process %d (%s)", h.PID, h.Process)
	}
	if e.Queues > 1 {
		remedy += ", or choose other queues (ONLOAD_QUEUES)"
	}
	return fmt.Sprintf("afxdp: queue %d of %s is taken by %s: %s: %v", e.Queue, e.Interface, by, remedy, e.Err)
}

// Unwrap returns the kernel's errno.
func (e *QueueError) Unwrap() error { return e.Err }

func busyQueue(l *linkInfo, queue int) *QueueError {
	e := &QueueError{Interface: l.name, Queue: queue, Queues: l.rx, Err: unix.EBUSY}
	if ino := queueHolder(l.index, queue); ino != 0 {
		h := socketHolder(ino)
		e.PID, e.Process = h.PID, h.Process
	}
	return e
}

// queueHolder asks the kernel for the inode of the AF_XDP socket that is bound to
// the queue. It returns 0 where that is unknown.
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

// lacks reports whether the process does not have the capability.
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
	// Keep the errno alone: the libraries' remark about RLIMIT_MEMLOCK leads
	// astray.
	if errno := unix.Errno(0); errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("afxdp: %s: this process lacks %s: %w", step, strings.Join(missing, ", "), err)
}
