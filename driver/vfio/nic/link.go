package nic

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Changes makes the eventfd of the interrupt by which the device reports that its link
// changed. FollowLink then listens to it.
func (b *Base) Changes() (fd int, err error) {
	fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("vfio: eventfd: %w", err)
	}
	b.changes = os.NewFile(uintptr(fd), "link")
	return fd, nil
}

// FollowLink has LinkUp and OnLink report the link, which is up or not now. At each
// interrupt read forgets the interrupt, so that the next one comes, and then looks
// whether the link is up. Its error breaks the queues.
func (b *Base) FollowLink(up bool, read func() (up bool, err error)) {
	b.up.Store(up)
	go b.follow(b.changes, read)
}

// follow runs until changes is closed.
func (b *Base) follow(changes *os.File, read func() (up bool, err error)) {
	var count [8]byte
	for {
		if _, err := changes.Read(count[:]); err != nil {
			return
		}
		b.mu.Lock()
		if b.halted {
			b.mu.Unlock()
			return
		}
		up, err := read()
		if err != nil {
			b.end(err)
		} else if b.gone == nil {
			b.up.Store(up)
		}
		call := b.onLink
		b.mu.Unlock()
		if call != nil {
			call()
		}
	}
}

// LinkUp implements driver.Linked.
func (b *Base) LinkUp() bool { return b.up.Load() }

// OnLink implements driver.Linked.
func (b *Base) OnLink(call func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onLink = call
}

// wake makes the descriptor readable: whoever sleeps looks at Err.
func (q *Queue) wake() {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	if q.fd >= 0 {
		_, _ = unix.Write(q.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // readable already, if it is full
	}
}
