package undo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors of the restorer.
const (
	fifoFD = 3
	lockFD = 4 // never named: open, it keeps the lock
	stepFD = 5 // of each Step first Data, then what that is written to
)

// restorer is the script of the shell. Its arguments are cat and the file with
// the Steps, which it empties by opening it. Each user that joins writes a line.
// A read that ends without a line says that the last user has gone. The Steps are
// done twice: when a process dies its XDP program goes too, drivers may then
// reset the NIC, and meanwhile there are no NAPI instances to set.
func restorer(steps int) string {
	var do strings.Builder
	for i := range steps {
		fmt.Fprintf(&do, "\"$1\" /proc/self/fd/%d >&%d\n", stepFD+2*i, stepFD+2*i+1)
	}
	return fmt.Sprintf("trap '' HUP INT QUIT TERM PIPE\nwhile read -r _ <&%d; do :; done\n%s: >\"$2\"\nsleep 1\n%s", fifoFD, &do, &do)
}

// guard starts the restorer, and opens the FIFO that it waits for.
func (h *Hold) guard(state *os.File, steps []Step) (err error) {
	cat, err := findCat()
	if err != nil {
		return fmt.Errorf("a restorer that puts settings back after a crash needs cat: %w", err)
	}
	path := h.fifoPath()
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	read := os.NewFile(uintptr(fd), path)
	defer read.Close()
	if h.fifo, err = openWriter(path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.fifo.Close()
			h.fifo = nil
		}
	}()
	if err := unix.SetNonblock(fd, false); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	files := []*os.File{read, state}
	defer func() {
		for _, f := range files[2:] {
			f.Close()
		}
	}()
	for i := range steps {
		data, err := inMemory(steps[i].Data)
		if err != nil {
			return err
		}
		files = append(files, data)
		to, err := steps[i].open()
		if err != nil {
			return err
		}
		files = append(files, to)
	}
	return start(exec.Command("/bin/sh", "-c", restorer(len(steps)), "onload-restorer", cat, h.path()), files)
}

// findCat does not depend on PATH: services may have none.
func findCat() (string, error) {
	for _, path := range []string{"/bin/cat", "/usr/bin/cat"} {
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return exec.LookPath("cat")
}

// start runs the restorer, and waits for its end in the background. Where the
// process may change the network by file capabilities, start passes that right
// on: a shell would not inherit it.
func start(cmd *exec.Cmd, files []*os.File) error {
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{"PATH=/usr/bin:/bin"}, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("a restorer that puts settings back after a crash cannot be started: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// inMemory returns a descriptor to read b from.
func inMemory(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("onload-undo", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "onload-undo")
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openWriter opens a FIFO for writing. The error is ENXIO where nobody reads it.
func openWriter(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// join opens the FIFO of a restorer that runs already. A restorer that has seen the
// end of the FIFO reads no more, so join waits until it has read a line of ours.
func (h *Hold) join() bool {
	f, err := openWriter(h.fifoPath())
	if err != nil {
		return false
	}
	if !heard(f) {
		f.Close()
		return false
	}
	h.fifo = f
	return true
}

// heard reports whether the reader of FIFO f reads a line that is written.
func heard(f *os.File) bool {
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return false // EPIPE: it has gone
	}
	fd := int(f.Fd())
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err == nil && n == 0 {
			return true
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err := unix.Poll(p, 0); err != nil && !errors.Is(err, unix.EINTR) || p[0].Revents&unix.POLLERR != 0 {
			return false
		}
	}
	return false
}
