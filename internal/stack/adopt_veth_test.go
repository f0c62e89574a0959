package stack

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/reinject"
	"github.com/onload-go/onload/internal/repair"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/tcp"
)

// visit hands n's connection to the kernel of ns and takes it back. It reports whether
// there was something to hand over.
func (n *nomad) visit(t *testing.T, ns *lab.NS) bool {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.c.Stack()
	snapshot, err := n.c.Freeze()
	if err != nil {
		if !errors.Is(err, tcp.ErrState) && !errors.Is(err, errClosed) {
			t.Error(err)
		}
		return false
	}
	if snapshot.State != tcp.Established && snapshot.State != tcp.CloseWait {
		n.c.Resume() // with the packets that wait it might end in the kernel, for good
		return false
	}
	var fd int
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ns.Do(func() (err error) {
		fd, err = repair.Restore(snapshot, func(int) error { return nil })
		return err
	}))
	packets := n.c.Release()
	must(ns.Do(func() error {
		_, err := reinject.Packets(packets)
		return err
	}))
	e, err := s.Expect(snapshot.Local, snapshot.Remote)
	must(err)
	var back *tcp.Snapshot
	err = ns.Do(func() (err error) {
		back, err = repair.Dump(fd)
		return err
	})
	must(err)
	must(ns.Do(func() error { return errors.Join(repair.Drop(fd), unix.Close(fd)) }))
	n.c, err = e.Adopt(back, nil)
	must(err)
	return true
}

// A connection to a peer of the kernel's goes from the stack to the kernel and back, in
// the middle of streams both ways.
func TestKernelAndBack(t *testing.T) {
	p := lab.NewPair(t, lab.Options{MTU: 1500})
	s := vethStack(t, p.A, Balanced, afxdp.ModeGeneric)
	for _, remote := range []netip.Addr{p.B.Addr4, p.B.Addr6} {
		for range testlong.Pick(1, 100) {
			l, err := p.B.Listen("tcp", netip.AddrPortFrom(remote, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			c, err := s.DialTCP(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort(l.Addr().String()), nil)
			if err != nil {
				t.Fatal(err)
			}
			k, err := l.Accept()
			l.Close()
			if err != nil {
				t.Fatal(err)
			}
			n := &nomad{c: c}
			visits := 0
			bothWays(t, n, k.(*net.TCPConn), testlong.Pick(1<<20, 8<<20), func() {
				if visits < 10 && n.visit(t, p.A) {
					visits++
				}
			})
			n.Close()
			k.Close()
			if visits == 0 {
				t.Error("the connection stayed where it was")
			}
		}
	}
	if st := s.Stats(); st.ConnsMoved == 0 || st.ConnsMoved != st.ConnsAdopted {
		t.Errorf("%d connections left, %d came", st.ConnsMoved, st.ConnsAdopted)
	}
}
