package stack

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// Expected is a flow whose connection another carrier is about to give to the stack.
// Its packets come to the stack, which keeps them until Adopt or Cancel.
type Expected struct {
	s             *Stack
	local, remote netip.AddrPort
	port          *port
	dst           *dst
	kept          kept
}

// Expect has the packets of the flow between two ends come to the stack, before the
// other carrier lets go of the connection. The errors are those of DialTCP, and
// EADDRINUSE where the stack has the flow.
func (s *Stack) Expect(local, remote netip.AddrPort) (*Expected, error) {
	if _, ok := s.cfg.Net.Local(local.Addr()); !ok {
		return nil, syscall.EADDRNOTAVAIL
	}
	e := &Expected{s: s, local: local, remote: remote}
	if err := e.enter(); err != nil {
		return nil, s.refusal(err)
	}
	p, err := s.ports.expect(local, remote)
	if err != nil {
		e.Cancel()
		return nil, s.refusal(err)
	}
	e.port = p
	return e, nil
}

// enter puts e into the demultiplexer.
func (e *Expected) enter() error {
	s := e.s
	s.begin()
	defer s.end()
	if s.life.ending.Load() {
		return errClosed
	}
	if s.demux.conn(e.local, e.remote) != nil || s.demux.expected[makeFlowKey(e.local, e.remote)] != nil ||
		!s.reuseTimeWait(e.local, e.remote) {
		return syscall.EADDRINUSE
	}
	d := s.dests.get(IPOptions{}.key(e.local, e.remote, ip.ProtoTCP), nil, s.now)
	if d == nil {
		return s.dests.why
	}
	if !s.demux.mates.claim(ip.ProtoTCP, e.local, e.remote) {
		s.dests.unref(d)
		return syscall.EADDRINUSE
	}
	e.dst, e.kept.mtu = d, s.dests.mtuOf(d, s.now)
	if s.demux.expected == nil {
		s.demux.expected = make(map[flowKey]*Expected)
	}
	s.demux.expected[makeFlowKey(e.local, e.remote)] = e
	if s.demux.inlet != nil {
		s.demux.inlet.Add(false, e.local, e.remote)
	}
	return nil
}

// leave takes e out of the demultiplexer, and returns the packets that came. The lock
// is held. Another call does nothing.
func (e *Expected) leave() []Injected {
	s, k := e.s, makeFlowKey(e.local, e.remote)
	if s.demux.expected[k] != e {
		return nil
	}
	delete(s.demux.expected, k)
	if s.demux.inlet != nil {
		s.demux.inlet.Remove(false, e.local, e.remote)
	}
	return s.takeKept(&e.kept)
}

// Cancel gives the flow up: its packets are the kernel's again. It returns those that
// came meanwhile, as Release does. After Adopt it does nothing.
func (e *Expected) Cancel() [][]byte {
	s := e.s
	s.begin()
	if s.demux.expected[makeFlowKey(e.local, e.remote)] != e {
		s.end()
		return nil
	}
	s.end()
	if !s.ports.leave(e.port, e.local, e.remote) {
		s.demux.twinsServe().Store(true)
	}
	s.begin()
	defer s.end()
	packets := e.leave()
	s.ports.leaving.move(e.local, e.remote, s.now)
	s.demux.mates.release(ip.ProtoTCP, e.local, e.remote)
	s.dests.unref(e.dst)
	return e.kept.raw(packets)
}

// Adopt makes the connection of snapshot, whose ends are those of e. packets are what
// the carrier before kept: they are processed first, then those that e has kept. After
// an error e is as it was, and the snapshot is somebody else's still. The error wraps
// tcp.ErrSnapshot or ENOBUFS, or is ErrClosed.
func (e *Expected) Adopt(snapshot *tcp.Snapshot, packets [][]byte) (*TCPConn, error) {
	s := e.s
	if snapshot.Local != e.local || snapshot.Remote != e.remote {
		return nil, errors.Join(tcp.ErrSnapshot, syscall.EINVAL)
	}
	s.begin()
	defer s.end()
	if s.life.ending.Load() || s.demux.expected[makeFlowKey(e.local, e.remote)] != e {
		return nil, errClosed
	}
	o := &snapshot.Options
	ipo := IPOptions{TOS: o.TOS, TTL: o.TTL, TrafficClass: o.TOS, HopLimit: o.TTL}
	d := s.dests.get(ipo.key(e.local, e.remote, ip.ProtoTCP), nil, s.now)
	if d == nil {
		return nil, s.dests.why
	}
	c := s.newTCPConn(d, e.local.Port(), e.remote.Port())
	mine := s.cfg.TCP
	mine.MTU = s.dests.mtuOf(d, s.now)
	with := &mine
	if m := d.metrics(); m != nil {
		with = mine.With(m, e.local.Addr())
	}
	if err := c.tc.Thaw(s.host, c, with, snapshot, s.now); err != nil {
		s.dests.unref(d)
		return nil, err
	}
	c.tc.SetTSO(d.on.tso)
	c.port = e.port
	c.adoptState(snapshot)
	kept := e.leave()
	s.dests.unref(e.dst)
	s.demux.addConn(c)
	s.demux.established(c)
	s.counters.adopted.Add(1)
	s.injectAll(c, packets, kept)
	s.touch(c)
	return c, nil
}

// adoptState sets what the socket knows of the protocol's state.
func (c *TCPConn) adoptState(snapshot *tcp.Snapshot) {
	if snapshot.SendFIN || snapshot.State == tcp.FinWait2 {
		c.state.Or(stWriteClosed)
	}
	if snapshot.ReadClosed {
		c.state.Or(stReadClosed)
	}
	if snapshot.Orphan {
		c.state.Or(stClosed)
		c.orphan = true
	}
}

// injectAll gives an adopted connection the packets that came before it was there.
func (s *Stack) injectAll(c *TCPConn, packets [][]byte, kept []Injected) {
	local, remote := c.tc.Local(), c.tc.Remote()
	for _, b := range packets {
		if p, ok := unraw(b, local, remote); ok {
			p.Link = c.dst.link()
			s.inject(&p)
		}
	}
	for i := range kept {
		s.inject(&kept[i])
	}
	s.rx.repeat.Forget()
}

// Adopt is Expect and Expected.Adopt in one, for a connection whose packets nobody gets
// at present, or whose peer may send some again.
func (s *Stack) Adopt(snapshot *tcp.Snapshot, packets [][]byte) (*TCPConn, error) {
	e, err := s.Expect(snapshot.Local, snapshot.Remote)
	if err != nil {
		return nil, err
	}
	c, err := e.Adopt(snapshot, packets)
	if err != nil {
		e.Cancel()
	}
	return c, err
}

// expect has a flow's packets come to us: by the port that a listener or other
// connections of ours have, else as one flow alone.
func (t *portTable) expect(local, remote netip.AddrPort) (*port, error) {
	t.settle()
	t.unexcept(local, remote)
	if p := t.find(local); p != nil {
		return t.steer(p)
	}
	p := &port{space: &portSpace{at: localAddr{ip.ProtoTCP, local.Addr()}}, number: local.Port(), refs: 1, remote: remote}
	if t.steerLone(p) {
		// Until the connection ends nobody else should get the port, but the carrier
		// before may have it still, in a way that does not let us.
		if t.kernel != nil {
			if h, err := t.kernel.HoldShared(ip.ProtoTCP, local); err == nil {
				t.mu.Lock()
				p.held = h
				t.held++
				t.mu.Unlock()
			}
		}
		return p, nil
	}
	return t.bindLocal(ip.ProtoTCP, local, false, control.Sharing{Addr: true})
}

// find counts another user of the port of local that the table has, if it does: of that
// very address, or of all.
func (t *portTable) find(local netip.AddrPort) *port {
	wild := netip.IPv6Unspecified()
	if local.Addr().Is4() {
		wild = netip.IPv4Unspecified()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range []netip.Addr{local.Addr(), wild, {}} {
		if sp := t.spaces[localAddr{ip.ProtoTCP, a}]; sp != nil {
			if p := sp.used[local.Port()]; p != nil && p.refs > 0 {
				p.refs++
				return p
			}
		}
	}
	return nil
}
