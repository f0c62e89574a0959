package broker_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/lab"
)

// grantOf asks for a link of 1 MiB.
func (w *network) grantOf(link uint32) *wire.Grant {
	return &wire.Grant{Link: link, Index: uint32(w.A.Index), FrameSize: 4096, RxRing: 64, TxRing: 64}
}

// TestMemoryOfBefore: memory counts as long as its sockets are open, also when its link has
// been given back, when its connection has ended, and when the next broker has its link.
func TestMemoryOfBefore(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody+"memory=\"1MiB\"\nprocesses=1\n")
	umem := memfd(t, 1<<20, sealedMemory)
	take := func(l *liar, link uint32) (token [16]byte, fds []int) {
		t.Helper()
		await(t, "memory is given back", func() bool {
			must(t, l.Send(3, w.grantOf(link), umem))
			_, m, got, err := l.Receive()
			must(t, err)
			g, ok := m.(*wire.Granted)
			if ok {
				token, fds = g.Token, got
			}
			return ok
		})
		t.Cleanup(func() { wire.CloseAll(fds) })
		return token, fds
	}
	give := func(fds []int) {
		wire.CloseAll(fds)
		for i := range fds {
			fds[i] = -1
		}
	}

	l := w.liar(t).hello()
	_, fds := take(l, 1)
	l.ok(&wire.Leave{Link: 1})
	l.refused(unix.ENOBUFS, w.grantOf(2), umem)
	give(fds)
	_, fds = take(l, 2)
	must(t, l.Close())

	l = w.liar(t).hello()
	l.refused(unix.EAGAIN, w.grantOf(1), umem)
	give(fds)
	token, fds := take(l, 1)

	w.end(false)
	w.begin()
	l = w.liar(t).hello()
	l.ok(&wire.Resume{Link: 1, Index: uint32(w.A.Index), Token: token})
	l.ok(&wire.Resumed{Link: 1})
	l.refused(unix.ENOBUFS, w.grantOf(2), umem)
	l.ok(&wire.Leave{Link: 1})
	l.refused(unix.ENOBUFS, w.grantOf(2), umem)
	give(fds)
	take(l, 2)
}
