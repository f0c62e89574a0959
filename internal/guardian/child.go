package guardian

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/flowtable"
)

func init() {
	if len(os.Args) != 2 || os.Args[0] != selfName {
		return
	}
	if err := Main(os.Args[1]); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// Main is the guardian's work. families are those of the raw sockets: "4", "6", "46" or
// none. It returns when the peers have been told, or need not be.
func Main(families string) error {
	runtime.GOMAXPROCS(1)
	// Whoever stops the process by a signal to all of its service, or of its terminal, does
	// not mean the guardian, which ends by itself.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	all := func(*flowtable.Flow) bool { return true }
	if err := flowtable.Read(tableFD, 0, nil); err != nil { // of another version
		return err
	}
	s, err := socketsOf(families)
	if err != nil {
		return err
	}
	closeInherited(rawFD + len(families))
	if _, err := unix.Write(controlFD, []byte{hello}); err != nil {
		return err
	}
	died, err := await(pidFD, controlFD, execWait)
	if err != nil || !died {
		return err
	}
	return s.Tell(tableFD, flowtable.Most, Late, all, nil)
}

func socketsOf(families string) (*Teller, error) {
	s := &Teller{-1, -1}
	fd := rawFD
	for _, f := range families {
		switch f {
		case '4':
			s.fd4 = fd
		case '6':
			s.fd6 = fd
		default:
			return nil, fmt.Errorf("onload: guardian: %q is no list of 4 and 6: programs that import onload start it themselves", families)
		}
		fd++
	}
	return s, nil
}

// closeInherited closes the descriptors from first on that the process had inherited and
// has passed on: they may hold a file lock, or keep a pipe open, for as long as the
// guardian lives. Those that this program has opened are not passed on (FD_CLOEXEC), and
// stay: Go's runtime has some.
func closeInherited(first int) {
	all, _ := os.ReadDir("/proc/self/fd")
	for _, f := range all {
		fd, err := strconv.Atoi(f.Name())
		if err != nil || fd < first {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// execWait is how long a process may live on whose end of the control socket is closed. A
// process that dies closes its descriptors just before it has ended. One that executes
// another program (execve(2)) closes them too: its connections are gone, but it stays.
const execWait = time.Second

// await waits until the process has ended, or has executed another program, or closes its
// connections itself.
func await(pid, control int32, execWait time.Duration) (died bool, err error) {
	fds := []unix.PollFd{{Fd: pid, Events: unix.POLLIN}, {Fd: control, Events: unix.POLLIN}}
	timeout := -1
	for {
		switch n, err := unix.Poll(fds, timeout); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, err
		case n == 0 || fds[0].Revents != 0:
			return true, nil
		}
		var b [1]byte
		if n, err := unix.Read(int(control), b[:]); n > 0 && b[0] == quit {
			return false, nil
		} else if n == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			fds[1].Fd, timeout = -1, int(execWait.Milliseconds())
		}
	}
}

// argument is that of Main for sockets.
func argument(s *Teller) string {
	var b strings.Builder
	if s.fd4 >= 0 {
		b.WriteByte('4')
	}
	if s.fd6 >= 0 {
		b.WriteByte('6')
	}
	return b.String()
}
