package drivertest

import (
	"testing"

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
	fd := q.WaitFD()
	l.needs(t, "Arm", fd >= 0)
	b := l.datagram(100, 1)
	for round := range 3 {
		if q.Arm() {
			t.Fatalf("round %d: Arm says that there is a packet", round)
		}
		if q.Arm() || readable(t, fd, 0) {
			t.Fatalf("round %d: readable before a packet", round)
		}
		l.A.send(t, b)
		if !readable(t, fd, patienceMillis) {
			t.Fatalf("round %d: not readable", round)
		}
		if !q.RxPending() {
			t.Errorf("round %d: readable, and nothing pending", round)
		}
		if q.Disarm(); readable(t, fd, 0) {
			t.Errorf("round %d: readable after Disarm", round)
		}
		if !q.Arm() || readable(t, fd, 0) {
			t.Errorf("round %d: Arm does not see the packet that waits", round)
		}
		l.B.receive(t, 1)
		q.Disarm()

		// While nobody asks, nobody is woken.
		l.A.send(t, b)
		l.B.receive(t, 1)
		if readable(t, fd, 0) {
			t.Errorf("round %d: a disarmed queue woke its waiter", round)
		}
	}
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
