package packetdrill

import (
	"slices"
	"strconv"
	"strings"

	"github.com/onload-go/onload/tcp"
)

// The suite of the FreeBSD project is written in the same language. A script that
// sets FreeBSD's variables counts as one of that suite. Things that no RFC fixes
// are not compared: the order and the padding of a SYN's options, the shift of the
// window, the buffer size that getsockopt returns, and whether an acknowledgement
// of data in order is delayed. A window may be smaller by less than a segment (RFC
// 9293 section 3.8.6.2.2).

// bsdInert has the variables, with their values in scripts, that make no difference
// to us; "": any value.
var bsdInert = map[string]string{
	"blackhole": "0", "hostcache.purgenow": "", "insecure_rst": "0", "insecure_syn": "0",
	"drop_synfin": "", "rexmit_initial": "1000", "rexmit_slop": "200", "rexmit_drop_options": "0",
	"delacktime": "40", "keepinit": "75000", "icmp_may_rst": "1", "ecn.maxretries": "1",
	"syncookies": "1", "syncookies_only": "0", "tolerate_missing_ts": "0",
}

// freebsd sets FreeBSD's defaults.
func (s *settings) freebsd() {
	if s.bsd {
		return
	}
	s.bsd = true
	if s.v6 && !s.mtuSet {
		s.tcp.MTU = 1500
	}
	s.tcp.ECN = tcp.ECNAccept
}

// bsdSysctl maps a variable of FreeBSD's to ours.
func (m *machine) bsdSysctl(name, val string) error {
	s := &m.set
	s.freebsd()
	if name == "kern.ipc.maxsockbuf" {
		return nil // bounds the shift
	}
	name = strings.TrimPrefix(name, "net.inet.tcp.")
	if want, ok := bsdInert[name]; ok && (want == "" || want == val) {
		return nil
	}
	n, err := strconv.Atoi(val)
	if err != nil {
		return unsupportedf("sysctl %s=%s", name, val)
	}
	switch name {
	case "rfc1323":
		s.tcp.NoTimestamps, s.tcp.NoWindowScale = n == 0, n == 0
	case "sack.enable":
		s.tcp.NoSACK = n == 0
	case "recvspace":
		s.tcp.RcvBuf = s.segments(n)
	case "sendspace":
		s.tcp.SndBuf = n
	case "ecn.enable":
		s.tcp.ECN = [...]tcp.ECN{tcp.ECNOff, tcp.ECNOn, tcp.ECNAccept}[min(max(n, 0), 2)]
	default:
		return unsupportedf("sysctl %s=%s", name, val)
	}
	return nil
}

// segments rounds a buffer's size up to whole segments.
func (s *settings) segments(n int) int {
	mss := s.tcp.MTU - s.headers()
	return (n + mss - 1) / mss * mss
}

// sockstat counts connections: sockstat ... | grep -c STATE | grep N.
func (m *machine) sockstat(ws []string) error {
	i := slices.Index(ws, "-c")
	if i < 0 || i+4 >= len(ws) || ws[len(ws)-2] != "grep" {
		return unsupportedf("command %q", strings.Join(ws, " "))
	}
	state, want := ws[i+1], ws[len(ws)-1]
	n := 0
	for _, c := range m.conns {
		if bsdState(c) == state {
			n++
		}
	}
	if state == "SYN_RCVD" {
		for _, l := range m.listeners {
			n += l.tl.Embryonic()
		}
	}
	if strconv.Itoa(n) != want {
		return failf("%d connections are %s, not %s", n, state, want)
	}
	return nil
}

// bsdState is the state of c in sockstat's words.
func bsdState(c *conn) string {
	switch {
	case !c.ended:
		return map[tcp.State]string{tcp.SynReceived: "SYN_RCVD"}[c.tc.State()]
	case c.tw != nil:
		return "TIME_WAIT"
	case !c.orphan:
		return "CLOSED"
	}
	return ""
}

// dropTimeWait is tcpdrop -s TIME_WAIT.
func (m *machine) dropTimeWait() {
	for _, c := range m.conns {
		c.tw = nil
	}
}

// plainSYN brings the options of a SYN into one order, without padding and
// the shift's value.
func plainSYN(opts []TCPOption) (out []TCPOption) {
	for _, o := range opts {
		switch o.Kind {
		case OptEOL, OptNOP:
			continue
		case OptWScale:
			o.Value = 0
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b TCPOption) int { return int(a.Kind) - int(b.Kind) })
	return out
}

// bsdDelay is how long FreeBSD delays an acknowledgement.
const bsdDelay = 40 * ms

// earlyAck reports whether the packet got is an acknowledgement that FreeBSD would
// have delayed: one of data in order that the next one covers.
func earlyAck(want, got *Packet) bool {
	return bareAck(got) && int32(want.Ack-got.Ack) >= 0 &&
		(want.Ack != got.Ack || want.Flags != got.Flags || !want.AnyOpts && len(want.Opts) != len(got.Opts))
}

// allow brings a script's packet and one that left into one form if they differ
// only in what no RFC fixes.
func (s *settings) allow(want, got *Packet) {
	if got.Flags&flagSYN != 0 {
		want.Opts, got.Opts = plainSYN(want.Opts), plainSYN(got.Opts)
	} else if s.heldBack(want, got) {
		want.Win = got.Win
	}
}

// heldBack reports whether the window got is smaller than want only because of
// silly window avoidance.
func (s *settings) heldBack(want, got *Packet) bool {
	return want.HasWin && got.Win < want.Win && int(want.Win-got.Win) < s.segments(1)
}

// bareAck reports whether p only acknowledges.
func bareAck(p *Packet) bool {
	for _, o := range p.Opts {
		if o.Kind == OptSACK {
			return false
		}
	}
	return p.Flags == flagACK && p.Len == 0
}
