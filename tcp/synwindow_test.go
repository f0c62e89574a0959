package tcp

import (
	"testing"

	"github.com/onload-go/onload/ring"
)

// TestSynWindow: where memory is low a SYN-ACK offers less, so that many new
// connections do not promise memory that does not exist. The offer stays: when the
// SYN-ACK is sent again, and at the beginning of the connection.
func TestSynWindow(t *testing.T) {
	b := newBench(t, 10, Config{})
	a := b.h.Arena
	var taken []ring.Frame
	for a.FreeFrames() > b.h.Reserve+4*windowShare {
		f, ok := a.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		taken = append(taken, f)
	}
	syn := linuxSYN()
	syn.Local, syn.Remote = testLocal, testRemote
	b.in(syn, "")
	sa := b.one(FlagSYN | FlagACK)
	each := a.FrameSize() - ring.Headroom
	if most := 4 * each; int(sa.Wnd) > most || int(sa.Wnd) < each {
		t.Errorf("the SYN-ACK offers %d bytes, want %d to %d", sa.Wnd, each, most)
	}
	for _, f := range taken {
		a.Free(f)
	}
	b.now += second
	b.in(syn, "")
	if again := b.one(FlagSYN | FlagACK); again.Wnd != sa.Wnd {
		t.Errorf("%d bytes when it is sent again, want %d", again.Wnd, sa.Wnd)
	}
	far := reply(syn, sa)
	far.Seq += uint32(sa.Wnd)
	b.in(far, "x")
	if len(b.accepted) != 0 {
		t.Error("a segment behind the window completes the handshake")
	}
	b.in(reply(syn, sa), "")
	if len(b.accepted) != 1 {
		t.Fatal("not accepted")
	}
	if c := b.accepted[0]; c.rcvAdv-c.rcvNxt != uint32(sa.Wnd) {
		t.Errorf("the connection begins with a window of %d, offered were %d", c.rcvAdv-c.rcvNxt, sa.Wnd)
	}
	other := linuxSYN()
	other.Local, other.Remote = testV6, testV6Peer
	b.in(other, "")
	if sa := b.one(FlagSYN | FlagACK); sa.Wnd != 65535 {
		t.Errorf("with memory again the SYN-ACK offers %d", sa.Wnd)
	}
}
