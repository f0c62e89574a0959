package packetdrill

import (
	"bytes"
	"net/netip"
)

// flowState says how far the script has come with a flow.
type flowState uint8

const (
	flowNew        flowState = iota // a socket
	flowListening                   // listen was called
	flowConnecting                  // connect was called
	flowSYN                         // the peer's SYN came, or ours left
	flowSYNACK                      // the answer too
)

// flow maps the numbers of a script to those of the wire: addresses, sequence
// numbers and timestamps. One flow at a time is under test, as in
// packetdrill.
type flow struct {
	state         flowState
	local, remote netip.AddrPort
	scriptISN     uint32 // of our SYN in the script
	localISN      uint32 // on the wire
	remoteISN     uint32 // the same in both
	synData       int    // bytes that our SYN carried
	stamps        map[uint32]uint32
	firstScript   uint32
	firstStamp    uint32
}

// in maps a script's packet from the network to the wire.
func (f *flow) in(p *Packet, scaled bool) (*Packet, error) {
	q := *p
	q.Opts = append([]TCPOption{}, p.Opts...)
	ack := f.localISN
	if p.Flags&flagSYN == 0 {
		q.Seq += f.remoteISN
	} else {
		ack -= f.scriptISN
	}
	if p.Flags&flagACK != 0 {
		q.Ack += ack // also where the script left the number out
	}
	for i := range q.Opts {
		o := &q.Opts[i]
		switch {
		case o.Kind == OptSACK:
			o.Blocks = shift(o.Blocks, ack)
		case o.Kind == OptTS && p.Flags&flagACK != 0:
			switch v, ok := f.stamps[o.Ecr]; {
			case ok:
				o.Ecr = v
			case scaled && f.stamps != nil:
				o.Ecr += f.firstStamp - f.firstScript
			default:
				return nil, failf("TS ecr %d is the value of no packet that left", o.Ecr)
			}
		}
	}
	return &q, nil
}

// out maps a packet that left to the script's numbers, except timestamps.
func (f *flow) out(p *Packet) {
	var ack uint32
	if p.Flags&flagSYN == 0 {
		p.Seq -= f.localISN
		ack = f.remoteISN
	} else {
		p.Seq -= f.localISN - f.scriptISN
	}
	p.SeqEnd = p.Seq + uint32(p.Len)
	if p.HasAck {
		p.Ack -= ack
	}
	for i := range p.Opts {
		p.Opts[i].Blocks = shift(p.Opts[i].Blocks, -ack)
	}
}

func shift(bs []Block, d uint32) (out []Block) {
	for _, b := range bs {
		out = append(out, Block{b.Start + d, b.End + d})
	}
	return out
}

func timestampOf(p *Packet) *TCPOption {
	for i := range p.Opts {
		if p.Opts[i].Kind == OptTS {
			return &p.Opts[i]
		}
	}
	return nil
}

// learnStamp maps the timestamp of the packet that left, got, to that of the
// script, want, and notes which stands for which.
func (f *flow) learnStamp(want, got *Packet) {
	w, g := timestampOf(want), timestampOf(got)
	if w == nil || g == nil {
		return
	}
	if f.stamps == nil {
		f.stamps = map[uint32]uint32{}
		f.firstScript, f.firstStamp = w.Value, g.Value
	}
	f.stamps[w.Value] = g.Value
	g.Value += f.firstScript - f.firstStamp
}

// fragment checks that b continues a as a segment of the same packet would.
func fragment(a, b *Packet, last bool) error {
	const free = 1<<0 | 1<<3 | 1<<7 // FIN, PSH, CWR
	switch {
	case a.Flags&^free != b.Flags&^free:
		return failf("flags differ between the segments of one packet")
	case b.Seq != a.SeqEnd:
		return failf("a gap between the segments of one packet")
	case a.Ack != b.Ack || optionsLen(a.Opts) != optionsLen(b.Opts):
		return failf("headers differ between the segments of one packet")
	case !last && a.Len != b.Len:
		return failf("segments of different lengths")
	}
	return nil
}

// compare checks a packet that left against the one that the script expects. tick
// is the length of a tick of the timestamp clock in µs; 0: timestamps are not
// checked.
func compare(want, got *Packet, tick, tolerance int64) error {
	differ := func(what string, w, g any) error {
		return failf("%s: expected %v, is %v", what, w, g)
	}
	switch {
	case want.Flags != got.Flags:
		return differ("flags", flagText(want.Flags), flagText(got.Flags))
	case want.Seq != got.Seq:
		return differ("sequence number", want.Seq, got.Seq)
	case want.Len != got.Len:
		return differ("payload length", want.Len, got.Len)
	case want.Ack != got.Ack:
		return differ("acknowledgement", want.Ack, got.Ack)
	case want.HasWin && want.Win != got.Win:
		return differ("window", want.Win, got.Win)
	case want.Urg != got.Urg:
		return differ("urgent pointer", want.Urg, got.Urg)
	case want.ECN == ECT01 && got.ECN != ECT0 && got.ECN != ECT1,
		want.ECN != ECNUnset && want.ECN != ECT01 && want.ECN != got.ECN:
		return failf("ECN mark differs")
	case want.AnyOpts:
		return nil
	case len(want.Opts) != len(got.Opts):
		return failf("options differ")
	}
	for i, w := range want.Opts {
		if g := got.Opts[i]; !sameOption(w, g, tick, tolerance) {
			return differ("option", w, g)
		}
	}
	return nil
}

func sameOption(w, g TCPOption, tick, tolerance int64) bool {
	if w.Kind != g.Kind {
		return false
	}
	switch w.Kind {
	case OptTS:
		d := int64(int32(w.Value - g.Value))
		return w.Ecr == g.Ecr && max(d, -d)*tick <= tolerance
	case OptSACK:
		if len(w.Blocks) != len(g.Blocks) {
			return false
		}
		for i := range w.Blocks {
			if w.Blocks[i] != g.Blocks[i] {
				return false
			}
		}
		return true
	case OptFO, OptFOExp:
		return w.AnyCookie || bytes.Equal(w.Cookie, g.Cookie)
	}
	return w.Value == g.Value
}
