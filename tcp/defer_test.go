package tcp

import (
	"net/netip"
	"testing"
	"time"
)

// TCP_DEFER_ACCEPT: a connection is there when its first data is, and the
// SYN-ACK is not repeated while that is waited for.
func TestDeferAccept(t *testing.T) {
	b := newBench(t, 8, Config{DeferAccept: 3 * time.Second})
	syn := linuxSYN()
	syn.Local, syn.Remote = testLocal, testRemote
	b.in(syn, "")
	ack := reply(syn, b.one(FlagSYN|FlagACK))
	b.in(ack, "")
	b.silent("bare ACK")
	if len(b.accepted) != 0 || b.h.Stats.TCPDeferAcceptDrop != 1 {
		t.Fatalf("%d accepted, %d put aside", len(b.accepted), b.h.Stats.TCPDeferAcceptDrop)
	}
	b.now += second
	b.l.Expire(b.now)
	b.silent("a second later")
	b.in(ack, "GET /")
	if len(b.accepted) != 1 || b.accepted[0].Info(b.now).BytesReceived != 5 {
		t.Fatalf("%d accepted with data", len(b.accepted))
	}
}

// When the time is over, the SYN-ACK goes out once more, and its
// acknowledgement is enough.
func TestDeferAcceptOver(t *testing.T) {
	b := newBench(t, 8, Config{DeferAccept: 3 * time.Second})
	syn := linuxSYN()
	syn.Local, syn.Remote = testLocal, testRemote
	b.in(syn, "")
	ack := reply(syn, b.one(FlagSYN|FlagACK))
	b.in(ack, "")
	start := b.now
	for b.sent = nil; len(b.sent) == 0; b.l.Expire(b.now) {
		b.now = b.l.Deadline()
	}
	if d := b.now - start; d != 3*second {
		t.Errorf("the SYN-ACK again after %v", time.Duration(d))
	}
	b.in(ack, "")
	if len(b.accepted) != 1 {
		t.Errorf("%d accepted", len(b.accepted))
	}
}

// A FIN counts as data. A client that never sends anything is forgotten.
func TestDeferAcceptEnds(t *testing.T) {
	b := newBench(t, 8, Config{DeferAccept: time.Second})
	syn := linuxSYN()
	syn.Local, syn.Remote = testLocal, testRemote
	b.in(syn, "")
	ack := reply(syn, b.one(FlagSYN|FlagACK))
	ack.Flags |= FlagFIN
	b.in(ack, "")
	if len(b.accepted) != 1 {
		t.Errorf("%d accepted with FIN", len(b.accepted))
	}
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 7)
	b.in(syn, "")
	b.in(reply(syn, b.one(FlagSYN|FlagACK)), "")
	for range 100 {
		if b.l.Embryonic() == 0 {
			return
		}
		b.now = b.l.Deadline()
		b.l.Expire(b.now)
	}
	t.Error("never forgotten")
}

// The first data of a connection that was put aside comes when the client has
// something to say: that is no round trip (RFC 6298 section 3).
func TestDeferAcceptRoundTrip(t *testing.T) {
	b := newBench(t, 8, Config{DeferAccept: 3 * time.Second})
	syn := linuxSYN()
	syn.Local, syn.Remote = testLocal, testRemote
	b.in(syn, "")
	ack := reply(syn, b.one(FlagSYN|FlagACK))
	b.now += 10 * ms
	b.in(ack, "")
	b.now += 900 * ms
	b.in(ack, "GET /")
	if len(b.accepted) != 1 {
		t.Fatal("not accepted")
	}
	if d := b.accepted[0].rtt.SRTT(); d != 0 && d != 10*ms {
		t.Errorf("round trip of %v", time.Duration(d))
	}
}
