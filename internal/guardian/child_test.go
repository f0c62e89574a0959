package guardian

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAwait: a process has died also if only its descriptors are closed, as when it has
// executed another program; and has not if it says so.
func TestAwait(t *testing.T) {
	pid, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pid)
	for name, c := range map[string]struct {
		sent string
		died bool
	}{"closed": {"", true}, "quit": {string(quit), false}} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fds[0], []byte(c.sent)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Close(fds[0]); err != nil {
			t.Fatal(err)
		}
		if died, err := await(int32(pid), int32(fds[1]), time.Millisecond); died != c.died || err != nil {
			t.Errorf("%s: %v, %v", name, died, err)
		}
		if err := unix.Close(fds[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInherited: a guardian keeps no descriptor that the process had inherited, and so
// passes on.
func TestInherited(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	inherited, err := unix.FcntlInt(uintptr(p[1]), unix.F_DUPFD, 100) // without FD_CLOEXEC
	_ = unix.Close(p[1])
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, Self)
	defer g.Close()
	awaitState(t, g, "process")
	if err := unix.Close(inherited); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(time.Minute.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 || fds[0].Revents&unix.POLLHUP == 0 {
			t.Errorf("the pipe has a writer: %v, %v", fds[0].Revents, err)
		}
		return
	}
}
