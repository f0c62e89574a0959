package repair

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/tcp"
)

// made is a connection in the state to be tested. All bytes of both streams are
// count's.
type made struct {
	hear           []func() // ends deafness
	deaf           bool     // A is
	written, wrote int      // by us, and by the peer
	ourFIN         bool     // was sent, or is queued
	peerFIN        bool
}

// states make connections of each kind that can change hands.
var states = []struct {
	name string
	want tcp.State
	make func(w *wire, fd int, peer *net.TCPConn, m *made)
}{
	{"idle", tcp.Established, func(*wire, int, *net.TCPConn, *made) {}},
	{"unread and unsent", tcp.Established, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		w.peerWrites(peer, fd, m, 30_000)
		m.written = stuff(w.t, fd)
		await(w.t, "a window that is shut", func() bool { return unsent(w.t, fd) > 0 })
	}},
	{"unacknowledged", tcp.Established, func(w *wire, fd int, _ *net.TCPConn, m *made) {
		m.hear, m.deaf = append(m.hear, w.deaf(w.A)), true
		w.write(fd, m, 5_000)
	}},
	{"FIN queued", tcp.FinWait1, func(w *wire, fd int, _ *net.TCPConn, m *made) {
		m.written = stuff(w.t, fd)
		await(w.t, "a window that is shut", func() bool { return unsent(w.t, fd) > 0 })
		w.shut(fd, m)
	}},
	{"FIN sent", tcp.FinWait1, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		w.peerWrites(peer, fd, m, 1_000)
		m.hear, m.deaf = append(m.hear, w.deaf(w.A)), true
		w.write(fd, m, 1_000)
		w.shut(fd, m)
	}},
	{"FIN acknowledged", tcp.FinWait2, func(w *wire, fd int, _ *net.TCPConn, m *made) {
		w.write(fd, m, 1_000)
		w.shut(fd, m)
	}},
	{"peer's FIN", tcp.CloseWait, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		w.peerWrites(peer, fd, m, 20_000)
		w.peerShuts(peer, m)
	}},
	{"peer's FIN, unsent", tcp.CloseWait, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		m.written = stuff(w.t, fd)
		w.peerShuts(peer, m)
	}},
	{"both FINs at once", tcp.Closing, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		w.peerWrites(peer, fd, m, 1_000)
		m.hear = append(m.hear, w.deaf(w.B))
		w.write(fd, m, 1_000)
		w.shut(fd, m)
		w.peerShuts(peer, m)
	}},
	{"last FIN sent", tcp.LastAck, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		w.peerWrites(peer, fd, m, 1_000)
		w.peerShuts(peer, m)
		await(w.t, "CLOSE-WAIT", func() bool { return stateOf(w.t, fd) == tcp.CloseWait })
		m.hear, m.deaf = append(m.hear, w.deaf(w.A)), true
		w.write(fd, m, 1_000)
		w.shut(fd, m)
	}},
	{"last FIN queued", tcp.LastAck, func(w *wire, fd int, peer *net.TCPConn, m *made) {
		m.written = stuff(w.t, fd)
		w.peerShuts(peer, m)
		await(w.t, "CLOSE-WAIT", func() bool { return stateOf(w.t, fd) == tcp.CloseWait })
		w.shut(fd, m)
	}},
}

func (w *wire) write(fd int, m *made, n int) {
	if k, err := unix.Write(fd, count(m.written, n)); k != n || err != nil {
		w.t.Fatal(k, err)
	}
	m.written += n
}

func (w *wire) shut(fd int, m *made) {
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		w.t.Fatal(err)
	}
	m.ourFIN = true
}

// peerWrites has the peer write n bytes, which fd has on return.
func (w *wire) peerWrites(peer *net.TCPConn, fd int, m *made, n int) {
	if _, err := peer.Write(count(m.wrote, n)); err != nil {
		w.t.Fatal(err)
	}
	m.wrote += n
	await(w.t, "the peer's bytes", func() bool {
		k, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		return err == nil && k == m.wrote
	})
}

func (w *wire) peerShuts(peer *net.TCPConn, m *made) {
	if err := peer.CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	m.peerFIN = true
}

func unsent(t testing.TB, fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStates: a connection changes hands in each state, with data on all sides, and
// goes on to its regular end. The peer, which is a kernel, has heard nothing of it.
func TestStates(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, s := range states {
			name := "IPv4 " + s.name
			if six {
				name = "IPv6 " + s.name
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWire(t)
				fd, peer := w.connect(six)
				var m made
				s.make(w, fd, peer, &m)
				await(t, s.want.String(), func() bool { return stateOf(t, fd) == s.want })
				if !m.deaf {
					m.hear = append(m.hear, w.deaf(w.A))
				}
				before, err := socket(fd).info()
				if err != nil {
					t.Fatal(err)
				}
				now, c := w.hand(fd)
				w.compare(now, &before, c)
				if s.want == tcp.Closing && !testlong.Enabled() {
					_ = unix.Close(now)
					return // our FIN was lost, and the kernel sends it again after 3 s
				}
				for _, f := range m.hear {
					f()
				}
				w.finish(now, peer, &m)
			})
		}
	}
}

// compare wants the restored socket as the first one was.
func (w *wire) compare(fd int, was *info, c *tcp.Snapshot) {
	w.t.Helper()
	is, err := socket(fd).info()
	if err != nil {
		w.t.Fatal(err)
	}
	const ecn = 8 | 16 // cannot be set
	if is.state != was.state || is.options&^ecn != was.options&^ecn || is.sndScale != was.sndScale || is.rcvScale != was.rcvScale {
		w.t.Errorf("state %d, options %#x, scales %d and %d; was %d, %#x, %d and %d",
			is.state, is.options, is.sndScale, is.rcvScale, was.state, was.options, was.sndScale, was.rcvScale)
	}
	if is.sndMSS != was.sndMSS || is.pmtu != was.pmtu {
		w.t.Errorf("MSS %d, path MTU %d; was %d and %d", is.sndMSS, is.pmtu, was.sndMSS, was.pmtu)
	}
	if is.bits.Snd_wnd != was.bits.Snd_wnd {
		w.t.Errorf("the peer's window is %d, was %d", is.bits.Snd_wnd, was.bits.Snd_wnd)
	}
	var again *tcp.Snapshot
	if err := w.A.Do(func() (err error) {
		if again, err = Dump(fd); err != nil {
			return err
		}
		return Undump(fd)
	}); err != nil {
		w.t.Fatal(err)
	}
	if again.SndUna != c.SndUna || again.SndNxt != c.SndNxt || again.RcvNxt != c.RcvNxt ||
		string(again.Send) != string(c.Send) || string(again.Recv) != string(c.Recv) || again.SendFIN != c.SendFIN || again.RecvFIN != c.RecvFIN {
		w.t.Errorf("sequence numbers and queues %v, were %v", brief(again), brief(c))
	}
	if int32(again.RcvAdv-c.RcvAdv) < 0 {
		w.t.Errorf("the window's edge went back by %d bytes", c.RcvAdv-again.RcvAdv)
	}
	if c.Timestamps && (int32(again.TSVal-c.TSVal) < 0) {
		w.t.Errorf("the clock went back from %d to %d", c.TSVal, again.TSVal)
	}
	o, p := again.Options, c.Options
	o.RcvBuf, o.SndBuf = p.RcvBuf, p.SndBuf // they have room for what was promised
	if o != p {
		w.t.Errorf("options %+v, were %+v", o, p)
	}
}

func brief(c *tcp.Snapshot) []any {
	return []any{c.SndUna, c.SndNxt, len(c.Send), c.SendFIN, c.RcvNxt, len(c.Recv), c.RecvFIN}
}

// finish has both ends write what is left, close, and read all.
func (w *wire) finish(fd int, peer *net.TCPConn, m *made) {
	w.t.Helper()
	ours := w.conn(fd)
	go func() {
		if !m.ourFIN {
			_, _ = ours.Write(count(m.written, 10_000)) // what is missing is read to be missing
			_ = ours.CloseWrite()
		}
	}()
	go func() {
		if !m.peerFIN {
			_, _ = peer.Write(count(m.wrote, 10_000))
			_ = peer.CloseWrite()
		}
	}()
	more := func(n int, fin bool) int {
		if fin {
			return n
		}
		return n + 10_000
	}
	got := make(chan struct{})
	go func() {
		defer close(got)
		wantStream(w.t, "the peer", peer, more(m.written, m.ourFIN))
	}()
	wantStream(w.t, "we", ours, more(m.wrote, m.peerFIN))
	<-got
}
