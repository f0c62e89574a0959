package guardian

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/flowtable"
)

// Values of Options.Program besides a path.
const (
	Auto = "auto" // the program onload, beside the process's own or in PATH; so is ""
	Off  = "off"  // none
	Self = "self" // the process's own program, executed again
)

// Options say what a Guardian guards.
type Options struct {
	Program string           // Auto, Off, Self or a path of the program onload
	Table   *flowtable.Table // stays the caller's, and open until Close
	In      func(func() error) error
	Log     *zap.Logger
}

// Guardian is a guardian process as the process sees it that it guards.
type Guardian struct {
	o       Options
	program string
	args    []string
	raw     *Teller // nil: not open
	pidfd   int

	mu      sync.Mutex
	state   string   // for people
	control *os.File // nil: there is no process now
	process *os.Process
	closed  bool
	stopped chan struct{} // closed: run has returned
	quit    chan struct{} // closed with closed
}

// Start starts the guardian in the background. In calls a function in the network
// namespace of the connections. Errors say why there can be none.
func Start(o Options) (*Guardian, error) {
	g := &Guardian{o: o, pidfd: -1, state: "starting", stopped: make(chan struct{}), quit: make(chan struct{})}
	if err := g.find(Elevated()); err != nil {
		return nil, err
	}
	if os.Getpid() == 1 {
		return nil, errors.New("this is the first process of its PID namespace, as in a container, and all others there end with it")
	}
	var err error
	if g.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	if err := o.In(func() (err error) { g.raw, err = NewTeller(); return err }); err != nil {
		g.release()
		return nil, fmt.Errorf("a raw socket: %w", err)
	}
	go g.run()
	return g, nil
}

// find sets the program.
func (g *Guardian) find(elevated bool) error {
	switch p := g.o.Program; p {
	case Off:
		return errors.New("it is off")
	case Self:
		g.program, g.args = "/proc/self/exe", []string{selfName}
		return nil
	case Auto, "":
		if exe, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(exe), "onload")
			if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				g.program = beside
				break
			}
		}
		if elevated {
			return errors.New("there is no program onload beside this one, and PATH does not count for a program with capabilities or a set-user-ID bit of its file")
		}
		p, err := exec.LookPath("onload")
		if err != nil {
			return errors.New("there is no program onload beside this one or in PATH, and ONLOAD_GUARDIAN does not say self")
		}
		g.program = p
	default:
		g.program = p
	}
	g.args = []string{"onload", "guardian"}
	return nil
}

const (
	startTries = 5
	startPause = time.Second // and longer each time
	helloWait  = 30 * time.Second
)

// run keeps a guardian process until Close.
func (g *Guardian) run() {
	defer close(g.stopped)
	for try := 1; ; try++ {
		ready, err := g.once()
		if ready {
			try = 0
		}
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			return
		}
		g.state = "none: " + err.Error()
		g.mu.Unlock()
		if try == startTries {
			g.o.Log.Warn("no guardian: peers of this process would not be told if it were killed", zap.String("program", g.program), zap.Error(err))
			return
		}
		select {
		case <-g.quit:
			return
		case <-time.After(time.Duration(try+1) * startPause):
		}
	}
}

// once runs a guardian process until it ends. ready: it has said hello.
func (g *Guardian) once() (ready bool, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	control, theirs := os.NewFile(uintptr(fds[0]), "guardian"), fds[1]
	defer control.Close()
	if err := unix.SetNonblock(theirs, false); err != nil {
		_ = unix.Close(theirs)
		return false, err
	}
	inherited := []uintptr{0, 0, 0, uintptr(theirs), uintptr(g.pidfd), uintptr(g.o.Table.FD())}
	for _, fd := range []int{g.raw.fd4, g.raw.fd6} {
		if fd >= 0 {
			inherited = append(inherited, uintptr(fd))
		}
	}
	p, err := spawn(g.program, append(g.args, argument(g.raw)), inherited)
	_ = unix.Close(theirs)
	if err != nil {
		return false, fmt.Errorf("%s: %w", g.program, err)
	}
	g.mu.Lock()
	if g.control, g.process = control, p; g.closed {
		g.end()
	}
	g.mu.Unlock()

	var b [1]byte
	_ = control.SetReadDeadline(time.Now().Add(helloWait))
	if n, _ := control.Read(b[:]); n == 1 && b[0] == hello {
		ready = true
		g.mu.Lock()
		g.state = fmt.Sprintf("process %d (%s)", p.Pid, g.program)
		if why := mayEnd(); why != "" {
			g.state += "; " + why
		}
		g.mu.Unlock()
	} else {
		_ = p.Kill()
	}
	st, err := p.Wait()
	g.mu.Lock()
	g.control = nil
	g.mu.Unlock()
	if err == nil {
		err = fmt.Errorf("%s is no guardian of this version: %v", g.program, st)
		if ready {
			err = fmt.Errorf("%s has ended: %v", g.program, st)
		}
	}
	return ready, err
}

// spawn starts a program in a session of its own, with /dev/null for 0 to 2 and those
// descriptors behind them, and with no environment that could mean something to it.
func spawn(program string, args []string, fds []uintptr) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	fds[0], fds[1], fds[2] = null.Fd(), null.Fd(), null.Fd()
	pid, _, err := syscall.StartProcess(program, args, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOTRACEBACK=none"}, Files: fds,
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

// String says which process guards, or why none does.
func (g *Guardian) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// Close ends the guardian, which tells nobody.
func (g *Guardian) Close() {
	g.mu.Lock()
	g.closed = true
	if g.control != nil {
		g.end()
	}
	close(g.quit)
	g.mu.Unlock()
	<-g.stopped
	g.release()
}

// endWait is how long the guardian process has to end by itself.
const endWait = 2 * time.Second

// end has the guardian process end. g.mu is held.
func (g *Guardian) end() {
	_, _ = g.control.Write([]byte{quit})
	p := g.process
	time.AfterFunc(endWait, func() { _ = p.Kill() }) // no effect on one that has ended
}

// release closes the descriptors.
func (g *Guardian) release() {
	if g.pidfd >= 0 {
		_ = unix.Close(g.pidfd)
	}
	if g.raw != nil {
		_ = g.raw.Close()
	}
}
