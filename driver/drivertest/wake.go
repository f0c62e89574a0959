package drivertest

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readable polls fd for at most wait milliseconds.
func readable(t *testing.T, fd, wait int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, wait)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

const patienceMillis = int(patience / 1e6)

// An armed queue makes WaitFD readable at the next packet, a disarmed one does
// not.
func testArm(t *testing.T, l *Ends) {
	l.ready(t)
	q := l.B.queue()
	l.needs(t, "Arm", q.WaitFD() >= 0)
	for round := range 3 {
		fault := l.wakes(t)
		for strays := 0; fault != "" && l.Stray && strays < 50; strays++ {
			q.Disarm()
			last := l.datagram(99, byte(strays))
			l.A.send(t, last)
			l.B.receiveUntil(t, last)
			fault = l.wakes(t)
		}
		if fault != "" {
			t.Fatalf("round %d: %s", round, fault)
		}
	}
}

// wakes arms and disarms B and sends to it, and returns what went wrong.
func (l *Ends) wakes(t *testing.T) (fault string) {
	t.Helper()
	q, b := l.B.queue(), l.datagram(100, 1)
	fd := q.WaitFD()
	if q.Arm() {
		return "Arm says that there is a packet"
	}
	if q.Arm() || readable(t, fd, 0) {
		return "readable before a packet"
	}
	l.A.send(t, b)
	if !readable(t, fd, patienceMillis) {
		t.Fatal("not readable")
	}
	// A stray wake-up may come before the packet that the sender's device has.
	for start := time.Now(); !q.RxPending(); runtime.Gosched() {
		if !l.Stray || time.Since(start) > patience {
			return "readable, and nothing pending"
		}
	}
	if q.Disarm(); readable(t, fd, 0) {
		return "readable after Disarm"
	}
	if !q.Arm() || readable(t, fd, 0) {
		return "Arm does not see the packet that waits"
	}
	l.B.receive(t, 1)
	q.Disarm()

	// While nobody asks, nobody is woken.
	l.A.send(t, b)
	l.B.receive(t, 1)
	if readable(t, fd, 0) {
		return "a disarmed queue woke its waiter"
	}
	return ""
}

// EdgeFD reports an arrival where nothing waits to an edge-triggered epoll, until
// NoEdges.
func testEdges(t *testing.T, l *Ends) {
	l.ready(t)
	q := l.B.queue()
	fd := q.EdgeFD()
	l.needs(t, "Edges", fd >= 0)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ep)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		t.Fatal(err)
	}
	edge := func(wait int) bool {
		var got [1]unix.EpollEvent
		for {
			n, err := unix.EpollWait(ep, got[:], wait)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			return n > 0
		}
	}
	edge(0) // registration may report one
	for round := range 5 {
		l.A.send(t, l.datagram(100, byte(round)))
		if !edge(patienceMillis) {
			t.Fatalf("packet %d: no edge", round)
		}
		l.B.receive(t, 1)
	}
	q.NoEdges()
	if again := q.EdgeFD(); again != fd {
		t.Errorf("EdgeFD is %d, was %d", again, fd)
	}
}
