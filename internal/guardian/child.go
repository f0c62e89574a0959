package guardian

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"

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
	if _, err := unix.Write(controlFD, []byte{hello}); err != nil {
		return err
	}
	died, err := await()
	if err != nil || !died {
		return err
	}
	return s.Tell(tableFD, flowtable.Most, all, nil)
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

// await waits until the process has ended, or closes its connections itself.
func await() (died bool, err error) {
	fds := []unix.PollFd{{Fd: pidFD, Events: unix.POLLIN}, {Fd: controlFD, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return false, err
		}
		if fds[0].Revents != 0 {
			return true, nil
		}
		var b [1]byte
		if n, err := unix.Read(controlFD, b[:]); n > 0 && b[0] == quit {
			return false, nil
		} else if n == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			// The process is dying: its descriptors are closed before it has ended.
			fds[1].Fd = -1
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
