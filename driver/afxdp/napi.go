package afxdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/undo"
)

// NAPI says how the kernel polls our queues. It matters if a socket has a NAPI
// instance that polls a NIC: in zero-copy mode, and with kernels after 6.18 in copy
// mode. Elsewhere, as on virtual links, deferred interrupts would make each round
// trip as long as the timeout.
type NAPI int

const (
	// NAPIKeep leaves it as it is.
	NAPIKeep NAPI = iota
	// NAPIDefer holds the interrupts back while we poll, and turns BusyPoll on.
	// The first packet after a pause in our polling may be late by napiFlush.
	NAPIDefer
	// NAPIThread has a thread of the kernel poll each queue all the time (Linux
	// 6.19). It costs a processor, and saves interrupts and system calls to
	// receive.
	NAPIThread
)

// String is "keep", "defer" or "thread".
func (n NAPI) String() string {
	switch n {
	case NAPIDefer:
		return "defer"
	case NAPIThread:
		return "thread"
	}
	return "keep"
}

// The values are those that the kernel's documentation of busy polling advises
// (Documentation/networking/napi.rst): the number of empty polls before the
// interrupt is on again, and the time without a poll after which the kernel polls
// by itself. irq-suspend-timeout stays as it is: it is for epoll's busy polling,
// and we use a socket's.
const (
	napiDefers = 2
	napiFlush  = 200 * time.Microsecond
)

// defaultBusyPoll is BusyPoll where NAPIDefer wants one.
const defaultBusyPoll = 64

// napiPaths names the directory with the settings of interfaces, and the one with
// the Steps that put them back. Tests have others.
type napiPaths struct{ sysfs, state string }

var napiDirs = napiPaths{"/sys/class/net", undo.Dir}

// errNoNAPI says why there is nothing to set.
var errNoNAPI = errors.New("the sockets have no NAPI instance of a NIC (virtual link, or copy mode)")

// setNAPI does what c.NAPI asks for, and describes the result in the caps. A
// failure is no error: packets come all the same.
func (d *Device) setNAPI(c *Config, l *linkInfo) {
	prefix, err := napiName(l)
	if err == nil {
		err = undo.Heal(napiDirs.state, prefix)
	}
	if err != nil {
		c.Log.Warn("afxdp: NAPI settings that an earlier process left could not be put back",
			zap.String("interface", l.name), zap.Error(err))
	}
	if c.NAPI == NAPIKeep {
		return
	}
	var ids []uint32
	for _, q := range d.queues.all() {
		if q.napi != 0 {
			ids = append(ids, q.napi)
		}
	}
	p := &napiPlan{want: c.NAPI, link: l, queue: d.queues.first().id, ids: ids, dirs: napiDirs}
	if d.napi, err = p.make(prefix); err != nil {
		d.caps.NAPI = fmt.Sprintf("%v not set: %v", c.NAPI, err)
		c.Log.Warn("afxdp: NAPI settings are left alone", zap.String("interface", l.name), zap.Stringer("wanted", c.NAPI), zap.Error(err))
		return
	}
	d.caps.NAPI = p.said
	c.Log.Info("afxdp: NAPI", zap.String("interface", l.name), zap.String("settings", p.said))
}

// napiName is the beginning of the names of an interface's settings. It runs
// inside the namespace.
func napiName(l *linkInfo) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", os.NewSyscallError("stat", err)
	}
	return fmt.Sprintf("napi-%d-%d-", st.Ino, l.index), nil
}

// napiPlan describes the changes to an interface.
type napiPlan struct {
	want NAPI
	link *linkInfo
	// queue is one of the process's queues, ids has the instances of all of them.
	queue int
	ids   []uint32
	dirs  napiPaths
	said  string // what was done
}

// make sets each NAPI instance where the kernel has settings of each (Linux
// 6.13), else those of the interface.
func (p *napiPlan) make(prefix string) (*undo.Hold, error) {
	if len(p.ids) == 0 {
		return nil, errNoNAPI
	}
	// Processes that share settings use the same name. An instance belongs to one
	// process, as its queue does.
	name, plan := prefix+"all", p.perInterface
	family, err := netdevFamily()
	if err == nil {
		if n, err := queryNAPI(family, p.ids[0]); err == nil && n.own {
			name, plan = fmt.Sprint(prefix, "q", p.queue), func() ([]undo.Step, func() error, error) { return p.perInstance(family) }
		}
	}
	p.said = fmt.Sprintf("%v, set by another process", p.want)
	return undo.Make(p.dirs.state, name, plan)
}

// perInstance plans with netlink.
func (p *napiPlan) perInstance(family uint16) (steps []undo.Step, change func() error, err error) {
	var said []string
	var back []byte
	var sets []set
	for _, id := range p.ids {
		n, err := queryNAPI(family, id)
		if err != nil {
			return nil, nil, err
		}
		to, was, what, err := n.plan(p.want)
		if err != nil {
			return nil, nil, err
		}
		said = append(said, what)
		if to != nil {
			back = append(back, was.message(family)...)
			sets = append(sets, *to)
		}
	}
	p.said = strings.Join(said, "; ")
	if len(sets) == 0 {
		return nil, nil, nil
	}
	return []undo.Step{{Data: back}}, func() error {
		for i := range sets {
			if err := sets[i].do(family); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// plan returns the messages that set one instance, and those that put it back. It
// returns nil if somebody has set the instance already: that setting is kept.
func (n *napi) plan(want NAPI) (to, back *set, what string, err error) {
	what = fmt.Sprintf("NAPI %d: ", n.id)
	if want == NAPIThread {
		if !n.threads {
			return nil, nil, "", fmt.Errorf("this kernel has no threads that poll (Linux 6.19): %w", errors.ErrUnsupported)
		}
		if n.threaded != 0 {
			return nil, nil, fmt.Sprintf("%skept as found, threaded %d", what, n.threaded), nil
		}
		on, off := uint32(threadedBusyPoll), uint32(0)
		return &set{id: n.id, threaded: &on}, &set{id: n.id, threaded: &off}, what + "polled by a thread of the kernel", nil
	}
	if n.defers != 0 || n.flush != 0 {
		return nil, nil, what + keptDefer(n.defers, n.flush), nil
	}
	defers, flush, zero := uint64(napiDefers), uint64(napiFlush), uint64(0)
	return &set{id: n.id, defers: &defers, flush: &flush}, &set{id: n.id, defers: &zero, flush: &zero}, what + setDefer(), nil
}

func keptDefer(defers, flush uint64) string {
	return fmt.Sprintf("kept as found, interrupts after %d polls, a poll after %v", defers, time.Duration(flush))
}

func setDefer() string {
	return fmt.Sprintf("interrupts after %d polls, a poll after %v", napiDefers, napiFlush)
}

// Files of an interface below sysfs.
const (
	deferFile = "napi_defer_hard_irqs"
	flushFile = "gro_flush_timeout"
)

// perInterface plans with sysfs.
func (p *napiPlan) perInterface() ([]undo.Step, func() error, error) {
	if p.want == NAPIThread {
		return nil, nil, fmt.Errorf("this kernel has no threads that poll (Linux 6.19): %w", errors.ErrUnsupported)
	}
	dir := filepath.Join(p.dirs.sysfs, p.link.name)
	if n, err := readNumber(filepath.Join(dir, "ifindex")); err != nil || n != uint64(p.link.index) {
		return nil, nil, fmt.Errorf("%s is not of the network namespace of %s: mount sysfs in it", p.dirs.sysfs, p.link.name)
	}
	deferPath, flushPath := filepath.Join(dir, deferFile), filepath.Join(dir, flushFile)
	defers, err := readNumber(deferPath)
	if err != nil {
		return nil, nil, err
	}
	flush, err := readNumber(flushPath)
	if err != nil {
		return nil, nil, err
	}
	if defers != 0 || flush != 0 {
		p.said = p.link.name + ": " + keptDefer(defers, flush)
		return nil, nil, nil
	}
	p.said = p.link.name + ": " + setDefer()
	return []undo.Step{{File: deferPath, Data: []byte("0\n")}, {File: flushPath, Data: []byte("0\n")}}, func() error {
		return errors.Join(writeNumber(deferPath, napiDefers), writeNumber(flushPath, uint64(napiFlush)))
	}, nil
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

func writeNumber(path string, v uint64) error {
	return os.WriteFile(path, []byte(strconv.FormatUint(v, 10)+"\n"), 0)
}
