package tcp

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
)

func TestTimeWaitInput(t *testing.T) {
	h := newHost(t, newArena(t, 64, 2048), Caps{MaxFrags: 1})
	ts := func(val uint32) Options { return Options{HasTS: true, TSVal: val, WScale: -1} }
	none := Options{WScale: -1}
	const now, deadline = 1000 * second, 1010 * second
	for _, c := range []struct {
		name    string
		noTS    bool
		s       Segment
		want    TWAction
		restart bool
	}{
		// RFC 1337: no reset ends TIME-WAIT.
		{"RST exact", false, Segment{Seq: 5000, Flags: FlagRST, Opt: none}, TWDrop, false},
		{"RST-ACK exact", false, Segment{Seq: 5000, Ack: 900, Flags: FlagRST | FlagACK, Opt: ts(200)}, TWDrop, false},
		{"RST with SYN", false, Segment{Seq: 9000, Flags: FlagRST | FlagSYN, Opt: ts(200)}, TWDrop, false},
		// RFC 9293 section 3.10.7.4.
		{"FIN again", false, Segment{Seq: 4999, Ack: 900, Flags: FlagFIN | FlagACK, Opt: ts(100)}, TWAck, true},
		{"data again", false, Segment{Seq: 4000, Ack: 900, Flags: FlagACK, Len: 4, Opt: ts(100)}, TWAck, true},
		{"data beyond", false, Segment{Seq: 5000, Ack: 900, Flags: FlagACK, Len: 4, Opt: ts(101)}, TWAck, true},
		{"last ACK", false, Segment{Seq: 5000, Ack: 900, Flags: FlagACK, Opt: ts(100)}, TWDrop, false},
		{"keepalive", false, Segment{Seq: 4999, Ack: 900, Flags: FlagACK, Opt: ts(100)}, TWAck, true},
		{"old ACK, PAWS", false, Segment{Seq: 5000, Ack: 900, Flags: FlagACK, Opt: ts(99)}, TWAck, true},
		{"null", false, Segment{Seq: 5000, Opt: ts(100)}, TWDrop, false},
		{"FIN without ACK", false, Segment{Seq: 5000, Flags: FlagFIN, Opt: ts(100)}, TWDrop, false},
		// RFC 6191 section 2.
		{"SYN, newer timestamp", false, Segment{Seq: 10, Flags: FlagSYN, Opt: ts(101)}, TWReopen, false},
		{"SYN, same timestamp, greater number", false, Segment{Seq: 5001, Flags: FlagSYN, Opt: ts(100)}, TWReopen, false},
		{"SYN, same timestamp, lower number", false, Segment{Seq: 4999, Flags: FlagSYN, Opt: ts(100)}, TWAck, false},
		{"SYN, older timestamp, greater number", false, Segment{Seq: 9000, Flags: FlagSYN, Opt: ts(99)}, TWAck, false},
		{"SYN, no timestamp, greater number", false, Segment{Seq: 5001, Flags: FlagSYN, Opt: none}, TWReopen, false},
		{"SYN, no timestamp, lower number", false, Segment{Seq: 5000, Flags: FlagSYN, Opt: none}, TWAck, false},
		{"SYN, never timestamps, greater number", true, Segment{Seq: 5001, Flags: FlagSYN, Opt: ts(1)}, TWReopen, false},
		{"SYN, never timestamps, lower number", true, Segment{Seq: 10, Flags: FlagSYN, Opt: ts(1)}, TWAck, false},
		{"SYN-ACK", false, Segment{Seq: 9000, Ack: 900, Flags: FlagSYN | FlagACK, Opt: ts(101)}, TWAck, false},
		{"SYN with FIN", false, Segment{Seq: 9000, Flags: FlagSYN | FlagFIN, Opt: ts(101)}, TWAck, false},
	} {
		tw := TimeWait{sndNxt: 900, rcvNxt: 5000, tsRecent: 100, ts: !c.noTS, deadline: deadline}
		s := c.s
		if s.Len > 0 {
			s.Payload = rxFrames(t, h, make([]byte, s.Len))
		}
		if got := tw.Input(h, &s, now); got != c.want {
			t.Errorf("%s: action %d, want %d", c.name, got, c.want)
		}
		if (tw.Deadline() != deadline) != c.restart || c.restart && tw.Deadline() != now+60*second {
			t.Errorf("%s: deadline %d", c.name, tw.Deadline())
		}
		if tw.tsRecent != 100 {
			t.Errorf("%s: changed the peer's timestamp (PAWS poisoning)", c.name)
		}
		if len(s.Payload) != 0 {
			t.Errorf("%s: payload left", c.name)
		}
	}
}

// Attack 18: two confused peers do not keep each other busy.
func TestTimeWaitAckRate(t *testing.T) {
	h := newHost(t, newArena(t, 64, 2048), Caps{MaxFrags: 1, TxCsum: true})
	tw := TimeWait{sndNxt: 900, rcvNxt: 5000, tsRecent: 100, tsOffset: 7, rcvWnd: 1 << 20, rcvWS: 4, ts: true}
	f, _ := h.Cache.Alloc()
	defer h.Cache.Free(f)
	acks := 0
	for now := second; now < 11*second; now += int64(1e6) {
		s := Segment{Seq: 4999, Ack: 900, Flags: FlagFIN | FlagACK, Opt: Options{HasTS: true, TSVal: 100}}
		if tw.Input(h, &s, now) != TWAck {
			continue
		}
		acks++
		d := tw.PutAck(h, testLocal, testRemote, f, now)
		var r Segment
		raw := h.Arena.Data(d)
		if _, err := r.Parse(raw, len(raw)); err != nil {
			t.Fatal(err)
		}
		if r.Flags != FlagACK || r.Seq != 900 || r.Ack != 5000 || r.Wnd != 65535 || r.Opt.TSVal != timestamp(now)+7 || r.Opt.TSEcr != 100 {
			t.Fatalf("ACK %+v", r)
		}
		if got, want := uint16(raw[16])<<8|uint16(raw[17]), ip.PseudoSum(testLocal.Addr(), testRemote.Addr(), ip.ProtoTCP, len(raw)); got != want {
			t.Fatalf("partial checksum %#x, want %#x", got, want)
		}
	}
	if acks != 20 {
		t.Errorf("%d ACKs in 10 s, want 20", acks)
	}
	if h.Stats.TCPACKSkippedTimeWait != 10_000-20 {
		t.Errorf("%d skipped", h.Stats.TCPACKSkippedTimeWait)
	}
}

// RFC 9293 section 3.10.7.1.
func TestReset(t *testing.T) {
	h := newHost(t, newArena(t, 64, 2048), Caps{MaxFrags: 1})
	f, _ := h.Cache.Alloc()
	defer h.Cache.Free(f)
	for _, c := range []struct {
		s        Segment
		flags    Flags
		seq, ack uint32
	}{
		{Segment{Seq: 100, Ack: 77, Flags: FlagACK, Len: 10}, FlagRST, 77, 0},
		{Segment{Seq: 100, Ack: 77, Flags: FlagACK | FlagSYN}, FlagRST, 77, 0},
		{Segment{Seq: 100, Ack: 77, Flags: FlagSYN}, FlagRST | FlagACK, 0, 101},
		{Segment{Seq: 100, Flags: FlagSYN | FlagFIN, Len: 10}, FlagRST | FlagACK, 0, 112},
		{Segment{Seq: 100, Len: 10}, FlagRST | FlagACK, 0, 110},
	} {
		for _, a := range [][2]netip.AddrPort{{testLocal, testRemote}, {testV6, testV6Peer}} {
			c.s.Local, c.s.Remote = a[0], a[1]
			d, ok := h.Reset(&c.s, f)
			if !ok {
				t.Fatalf("%v: no reset", c.s.Flags)
			}
			raw := h.Arena.Data(d)
			var r Segment
			if _, err := r.Parse(raw, len(raw)); err != nil {
				t.Fatal(err)
			}
			if r.Flags != c.flags || r.Seq != c.seq || r.Ack != c.ack || r.Wnd != 0 {
				t.Errorf("%v: %+v", c.s.Flags, r)
			}
			if ip.Add(ip.PseudoSum(a[0].Addr(), a[1].Addr(), ip.ProtoTCP, len(raw)), ip.Sum(raw)) != 0xffff {
				t.Errorf("%v: bad checksum", c.s.Flags)
			}
			if src, dst := Ports(raw); src != a[0].Port() || dst != a[1].Port() {
				t.Errorf("%v: ports %d, %d", c.s.Flags, src, dst)
			}
		}
	}
	for _, fl := range []Flags{FlagRST, FlagRST | FlagACK, FlagRST | FlagSYN} {
		if _, ok := h.Reset(&Segment{Flags: fl}, f); ok {
			t.Errorf("%v was answered", fl)
		}
	}
}

func TestStats(t *testing.T) {
	var s Stats
	s.OutRsts.Add(3)
	seen := map[string]uint64{}
	s.Each(func(name, help string, n uint64) {
		if help == "" {
			t.Errorf("%s has no description", name)
		}
		seen[name] = n
	})
	if seen["OutRsts"] != 3 || len(seen) < 30 {
		t.Errorf("%d counters, OutRsts %d", len(seen), seen["OutRsts"])
	}
}
