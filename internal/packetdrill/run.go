package packetdrill

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config says how scripts are run. The zero value is IPv4 with packetdrill's
// defaults.
type Config struct {
	IPv6 bool
	// Define gives values to names, as -D does.
	Define map[string]string
}

const (
	ms = int64(1e6)
	// pace is the time that passes between an event and the system call or packet
	// after it: the least that packetdrill needs.
	pace = int64(50e3)
	// patience bounds a wait that the script does not bound.
	patience = int64(600e9)
	// overdue is how long after its time a packet is still waited for.
	overdue = int64(2e9)
)

// machine runs one script.
type machine struct {
	*host
	set   settings
	begin int64

	fds   map[int]file
	flow  *flow
	ports uint16 // of the peer, last given out
	local uint16 // ephemeral ports, last given out
	call  *pending
	vars  map[string]value // of the Python code

	last   *Event
	lastAt int64 // when the event before was to happen, from begin
}

// pending is a system call that blocks while the script goes on.
type pending struct {
	ev  *Event
	op  op
	end int64 // when it is to return, from begin
	tol int64
}

// Run runs the script src.
func Run(src string, cfg Config) Result {
	sc, err := Parse(src)
	if err != nil {
		return result(0, err)
	}
	set, err := newSettings(sc, cfg)
	if err != nil {
		return result(0, err)
	}
	h, err := newHost()
	if err != nil {
		return result(0, err)
	}
	defer h.close()
	m := &machine{host: h, set: set, begin: h.now, fds: map[int]file{}, ports: 40000, local: 50000, vars: map[string]value{}}
	for i := range sc.Events {
		ev := &sc.Events[i]
		if err := m.event(ev); err != nil {
			return resultAt(ev.Line, err)
		}
	}
	if call := m.call; call != nil {
		return resultAt(call.ev.Line, m.finish())
	}
	return Result{}
}

// resultAt is the result of a script that ended with err while line ran.
func resultAt(line int, err error) Result {
	var at *lineError
	if errors.As(err, &at) {
		return result(at.line, at.err)
	}
	return result(line, err)
}

// lineError is an error of another line than the one that runs.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }

// since is the time of the script.
func (m *machine) since() int64 { return m.now - m.begin }

// tolerance of an event that is to happen at at.
func (m *machine) tolerance(at int64) int64 {
	t := m.set.tolerance
	if m.last != nil {
		t = max(t, int64(m.set.percent/100*float64(at-m.lastAt)))
	}
	return t
}

// event makes ev happen.
func (m *machine) event(ev *Event) error {
	if ev.Packet != nil {
		p, err := m.set.resolve(ev.Packet)
		if err != nil {
			return err
		}
		ev.Packet = p
	}
	at, to := ev.Time.At, ev.Time.To
	if ev.Time.Kind != Absolute {
		base := m.since()
		if m.last != nil && inbound(m.last) && inbound(ev) {
			base = m.lastAt
		}
		at, to = at+base, to+base
	}
	tol := m.tolerance(at)
	if m.last == nil && at != 0 {
		return failf("the first event must happen at time 0")
	}
	if ev.Packet != nil && !ev.Packet.In {
		err := m.outbound(ev, at, to, tol)
		m.last, m.lastAt = ev, at
		return err
	}
	when := at
	if m.last != nil {
		when = max(at, m.since()+pace)
	}
	if err := m.advance(m.begin + when); err != nil {
		return err
	}
	if d := m.since() - at; d > tol && ev.Time.Kind != AnyTime {
		return failf("it is %s too late for this", seconds(d))
	}
	m.last, m.lastAt = ev, at
	switch {
	case ev.Packet != nil:
		return m.inbound(ev.Packet)
	case ev.Call != nil:
		return m.system(ev, to, tol)
	case ev.Shell != nil:
		return m.shell(*ev.Shell)
	}
	return m.code(*ev.Code)
}

func inbound(ev *Event) bool { return ev.Packet != nil && ev.Packet.In }

func seconds(ns int64) string { return fmt.Sprintf("%.6f s", float64(ns)/1e9) }

// advance lets time pass until to, and timers run.
func (m *machine) advance(to int64) error {
	for {
		if err := m.progress(); err != nil {
			return err
		}
		if m.deadline() > to || !m.step(to) {
			break
		}
	}
	m.now = max(m.now, to)
	return m.progress()
}

// step goes to the next timer, if there is one until to, and runs it.
func (m *machine) step(to int64) bool {
	d := m.deadline()
	if m.call != nil {
		d = min(d, m.call.op.wakeup())
	}
	if d > to {
		return false
	}
	m.now = max(m.now, d)
	m.expire()
	return true
}

// outbound waits for the packet that ev expects.
func (m *machine) outbound(ev *Event, at, to, tol int64) error {
	want := *ev.Packet
	if want.Proto != TCP {
		return unsupportedf("packets of ours other than TCP")
	}
	f := m.flow
	if f == nil {
		return failf("no socket for this packet")
	}
	syn := want.Flags&(flagSYN|flagACK) == flagSYN
	if syn && f.state == flowConnecting {
		f.state, f.scriptISN = flowSYN, want.Seq
	}
	if f.state == flowSYN && want.Flags&(flagSYN|flagACK) == flagSYN|flagACK {
		f.scriptISN = want.Seq
	}
	limit := m.now + patience
	if ev.Time.Kind != AnyTime {
		limit = m.begin + max(at, to) + overdue
	}
	var whole, prev *Packet
	var payload []byte
	left := int64(0)
	for whole == nil || len(payload) < want.Len && !m.set.strictSegments {
		s, err := m.sniff(limit)
		if err != nil {
			return failf("%v\n  expected %v", err, &want)
		}
		p, data, err := take(s.b, s.local, s.remote, s.ecn)
		if err != nil {
			return err
		}
		if f.state == flowSYN && p.Flags&flagSYN != 0 {
			f.localISN, f.synData = p.Seq, max(f.synData, p.Len)
			if p.Flags&flagACK != 0 {
				f.state = flowSYNACK
			}
		}
		f.out(p)
		if m.set.bsd && whole == nil && earlyAck(&want, p) {
			continue
		}
		if prev != nil {
			if err := fragment(prev, p, len(payload)+p.Len >= want.Len); err != nil {
				return failf("%v\n  expected %v\n  is       %v\n  then     %v", err, &want, prev, p)
			}
		}
		prev, payload, left = p, append(payload, data...), s.at-m.begin
		q := *p
		if whole != nil {
			q.Seq = whole.Seq
		}
		q.Len, q.SeqEnd = len(payload), q.Seq+uint32(len(payload))
		whole = &q
	}
	f.learnStamp(&want, whole)
	if m.set.bsd {
		m.set.allow(&want, whole)
	}
	err := compare(&want, whole, m.set.tick, max(m.set.tolerance, int64(m.set.percent/100*float64(at)))/1e3)
	if err == nil {
		when := left
		if m.set.bsd && bareAck(whole) {
			when = max(left, min(at, left+bsdDelay))
		}
		err = m.onTime(ev, at, to, tol, when)
	}
	if err == nil {
		err = m.written(whole, payload)
	}
	if err != nil {
		want.ECN = max(want.ECN, NoECN)
		return failf("%v\n  expected %s %v\n  is       %s %v", err, seconds(at), &want, seconds(left), whole)
	}
	return nil
}

// onTime checks when a packet left.
func (m *machine) onTime(ev *Event, at, to, tol, left int64) error {
	if !ev.Time.Range {
		to = at
	}
	if ev.Time.Kind == AnyTime || left >= at-tol && left <= to+tol {
		return nil
	}
	if ev.Time.Range {
		return failf("left at %s, not from %s to %s", seconds(left), seconds(at), seconds(to))
	}
	return failf("left at %s, not at %s", seconds(left), seconds(at))
}

// sniff returns the next packet of the flow, waiting until limit.
func (m *machine) sniff(limit int64) (s sent, err error) {
	for {
		for len(m.wire) > 0 {
			s, m.wire = m.wire[0], m.wire[1:]
			if m.ours(&s) {
				return s, nil
			}
		}
		if err := m.progress(); err != nil {
			return s, err
		}
		if len(m.wire) > 0 {
			continue
		}
		if !m.step(limit) {
			m.now = max(m.now, min(limit, m.now+patience))
			return s, failf("no packet left")
		}
	}
}

// ours reports whether s belongs to the flow under test.
func (m *machine) ours(s *sent) bool {
	return s.local == m.flow.local && s.remote == m.flow.remote
}

// inbound sends a packet from the network.
func (m *machine) inbound(p *Packet) error {
	if p.Proto == UDP {
		return unsupportedf("UDP")
	}
	f := m.flow
	if p.Proto == TCP && (f == nil || f.state == flowListening || f.state == flowNew) {
		m.ports++
		f = &flow{
			state:  flowSYN,
			local:  netip.AddrPortFrom(m.set.local, m.set.bindPort),
			remote: netip.AddrPortFrom(m.set.remote, m.ports),
		}
		if p.Flags&flagSYN != 0 {
			f.remoteISN = p.Seq
		}
		m.flow = f
	}
	if f == nil || !f.local.IsValid() {
		return failf("no socket for this packet")
	}
	if p.Proto == ICMP {
		return m.inboundICMP(p)
	}
	if f.state == flowSYN && p.Flags&flagSYN != 0 {
		f.remoteISN = p.Seq // also where both sides open at once
		if p.Flags&flagACK != 0 {
			f.state = flowSYNACK
		}
	}
	q, err := f.in(p, m.set.ecrScaled)
	if err != nil {
		return err
	}
	src, dst := f.remote, f.local
	if p.SrcPort != 0 {
		src = netip.AddrPortFrom(src.Addr(), p.SrcPort)
	}
	if p.DstPort != 0 {
		dst = netip.AddrPortFrom(dst.Addr(), p.DstPort)
	}
	from := int64(p.Seq) - 1
	if p.Flags&flagSYN != 0 {
		from = 0
	}
	b, err := build(q, src, dst, pattern(from, p.Len))
	if err != nil {
		return err
	}
	var ecn uint8
	switch p.ECN {
	case ECT0, ECT01:
		ecn = 2
	case ECT1:
		ecn = 1
	case CE:
		ecn = 3
	}
	return m.input(b, dst, src, ecn, m.set.mss)
}

// pattern is n bytes of a stream, from the offset from on.
func pattern(from int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = patternAt(from + int64(i))
	}
	return b
}

func patternAt(off int64) byte { return byte(off*31 ^ off>>8*7) }

// written checks the payload of a packet that left.
func (m *machine) written(p *Packet, payload []byte) error {
	from := int64(p.Seq) - 1
	if p.Flags&flagSYN != 0 {
		from = 0
	}
	for i, b := range payload {
		if b != patternAt(from+int64(i)) {
			return failf("byte %d of the stream is %#x, %#x was written", from+int64(i), b, patternAt(from+int64(i)))
		}
	}
	return nil
}
