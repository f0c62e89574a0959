package nic

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ring"
)

type noLine struct{}

func (noLine) Enable()     {}
func (noLine) Disable()    {}
func (noLine) Lost() error { return nil }

// noRings receives nothing.
type noRings struct{ Rings }

func (noRings) RxPending() bool { return false }

// The link is reported at each interrupt. One by which the device says that it is gone
// breaks the queues, and wakes whoever waits.
func TestFollowLink(t *testing.T) {
	a, err := ring.NewArena(16, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b := Loose(a)
	defer b.Close()
	var q Queue
	if _, err := q.Init(b, noLine{}, noRings{}, false); err != nil {
		t.Fatal(err)
	}
	b.Add(nil, &q)
	fd, err := b.Changes()
	if err != nil {
		t.Fatal(err)
	}
	var up, gone atomic.Bool
	errGone := errors.New("gone")
	b.FollowLink(true, func() (bool, error) {
		if gone.Load() {
			return false, errGone
		}
		return up.Load(), nil
	})
	if !b.LinkUp() {
		t.Error("down at first")
	}
	called := make(chan struct{}, 9)
	b.OnLink(func() { called <- struct{}{} })
	interrupt := func() {
		t.Helper()
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-called:
		case <-time.After(time.Minute):
			t.Fatal("nobody is told")
		}
	}
	for _, want := range []bool{false, true, false} {
		up.Store(want)
		interrupt()
		if b.LinkUp() != want || q.Broken() {
			t.Errorf("the link is up: %v, want %v; %v", b.LinkUp(), want, q.Err())
		}
	}
	if q.Arm() {
		t.Fatal("a packet")
	}
	gone.Store(true)
	interrupt()
	if !errors.Is(q.Err(), errGone) {
		t.Error(q.Err())
	}
	fds := []unix.PollFd{{Fd: int32(q.WaitFD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 60_000); n != 1 {
		t.Errorf("whoever waits is not woken: %v", err)
	}
}
