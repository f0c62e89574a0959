// Package undo restores settings of the kernel that outlive the process that made
// them, however that process ends.
//
// Settings of a network interface belong to nobody: no descriptor holds them. So
// before a process changes them it writes the way back to a file below /run, and
// starts a restorer: a shell that waits for the end of a FIFO which every user of
// the settings has open. When the last user has closed the FIFO, or died, the
// restorer puts the settings back. It inherits the descriptors that it needs, so
// it depends on no path and no namespace. It has a session of its own and ignores
// the terminal's signals. If it is killed too, as with a whole control group, the
// file stays, and the next user puts the settings back first.
//
// The restorer is a shell and cat for want of anything better. A library cannot
// start its host program again without running that program's init functions. A
// child without exec would keep the process's memory and rings. The kernel has no
// object with a destructor for this.
package undo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the directory of the files with Steps. It must be empty after a boot.
const Dir = "/run/onload"

// A Step puts settings back. Data is written to File in one call; if File is empty,
// to the kernel's generic netlink.
type Step struct {
	File string `json:",omitempty"`
	Data []byte
}

// open returns the file or socket that Data is written to.
func (s *Step) open() (*os.File, error) {
	if s.File != "" {
		return os.OpenFile(s.File, os.O_WRONLY, 0)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, os.NewSyscallError("socket(AF_NETLINK)", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

func (s *Step) do() error {
	f, err := s.open()
	if err != nil {
		return err
	}
	_, err = f.Write(s.Data)
	return errors.Join(err, f.Close())
}

// maxSteps is the number of Steps that a shell can name: it knows ten
// descriptors.
const maxSteps = 2

// patience is how long we wait for a restorer that is about to end.
const patience = 10 * time.Second

// Hold keeps settings as they are, together with those of other processes that
// have the same name.
type Hold struct {
	dir, name string
	fifo      *os.File
}

// Make changes settings. All who share the settings use the same name. If another
// process holds them, Make joins it and does not call plan. Otherwise plan looks at
// the settings, and returns the Steps that put them back, at most two, and the
// function that changes them. If there is nothing to do it returns no Steps, and
// the Hold is nil.
//
// It runs inside the network namespace that the settings belong to.
func Make(dir, name string, plan func() (back []Step, change func() error, err error)) (*Hold, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := &Hold{dir: dir, name: name}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		state, err := h.lock()
		if err == nil {
			defer state.Close()
			return h.begin(state, plan)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if h.join() {
			return h, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s: another process holds it, and its restorer does not answer: %w", h.path(), err)
		}
	}
}

func (h *Hold) path() string     { return filepath.Join(h.dir, h.name) }
func (h *Hold) fifoPath() string { return h.path() + ".fifo" }

// lock opens the file with the Steps, unless a restorer or a process has it.
func (h *Hold) lock() (*os.File, error) { return lock(h.path(), os.O_CREATE) }

func lock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}

// begin is Make for the first user.
func (h *Hold) begin(state *os.File, plan func() ([]Step, func() error, error)) (*Hold, error) {
	if err := heal(state); err != nil {
		return nil, err
	}
	steps, change, err := plan()
	if err != nil || len(steps) == 0 {
		return nil, err
	}
	if len(steps) > maxSteps {
		return nil, fmt.Errorf("%d steps to put back: at most %d", len(steps), maxSteps)
	}
	b, err := json.Marshal(steps)
	if err != nil {
		return nil, err
	}
	if _, err := state.WriteAt(b, 0); err != nil {
		return nil, err
	}
	if err := h.guard(state, steps); err != nil {
		return nil, errors.Join(err, state.Truncate(0))
	}
	if err := change(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// heal puts back what a killed restorer has left.
func heal(state *os.File) error {
	b, err := io.ReadAll(io.NewSectionReader(state, 0, 1<<20))
	if err != nil || len(b) == 0 {
		return err
	}
	var steps []Step
	var errs []error
	// A file that cannot be read was still being written: nothing was changed
	// yet.
	if json.Unmarshal(b, &steps) == nil {
		for i := range steps {
			errs = append(errs, steps[i].do())
		}
	}
	err = errors.Join(errs...)
	if errors.Is(err, os.ErrPermission) {
		return err // a process with the right may still do it
	}
	// Other Steps fail because an interface or a NAPI instance is gone, and would
	// always fail.
	return state.Truncate(0)
}

// Heal puts back what dead processes left under names that begin with prefix,
// and whose restorers died too. It runs inside their network namespace.
func Heal(dir, prefix string) error {
	paths, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range paths {
		if strings.HasSuffix(p, ".fifo") {
			continue
		}
		f, err := lock(p, 0)
		if err != nil {
			continue // held by the living
		}
		errs = append(errs, heal(f), f.Close())
	}
	return errors.Join(errs...)
}

// Close gives the settings up. If this was the last user, they are put back
// before Close returns.
func (h *Hold) Close() error {
	if h == nil || h.fifo == nil {
		return nil
	}
	err := h.fifo.Close()
	h.fifo = nil
	for end := time.Now().Add(patience / 4); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if st, e := os.Stat(h.path()); e == nil && st.Size() == 0 {
			break // put back
		}
		state, e := h.lock()
		if e != nil {
			continue // others hold them, or the restorer is at work
		}
		// It was killed.
		return errors.Join(err, heal(state), state.Close())
	}
	return err
}
