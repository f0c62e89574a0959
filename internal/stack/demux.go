package stack

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// demux finds the socket that a packet is for. It belongs to the holder of the
// stack lock.
type demux struct {
	// The last answers, since most packets of a turn are of one flow. They stand
	// together in two cache lines.
	lastConn               *TCPConn
	lastPorts              uint32   // of lastConn's segments, as on the wire; 0: look it up
	lastUDP                *UDPConn // nil: look it up; none came, or a socket was opened or closed since
	lastUDPSrc, lastUDPDst netip.AddrPort

	seed      maphash.Seed // of flowHash
	flows     table[TCPConn]
	timeWaits table[timeWait]
	listeners boundTable[*TCPListener]
	udps      boundTable[*UDPConn]
	udpFlows  map[flowKey]*UDPConn // the connected ones
	mates     mates                // other stacks, which may have the flow

	inlet Inlet             // is told of flows; nil: there is no kernel
	table *flowtable.Writer // of established connections; nil: nobody reads it

	// Connections that change hands; nil: there were none. keptBytes counts what is
	// kept of them.
	moving    map[*TCPConn]*leavingConn
	expected  map[flowKey]*Expected
	keptBytes int

	// twins: the kernel's twins of listeners may have connections, for as long as those
	// like, since segments that nobody judged were given back, or since a twin served
	// clients before its listener here (TCPOptions.TwinServes). See twinsServe.
	twins atomic.Bool
}

// twinsServe is twins, of a team's stacks in common.
func (d *demux) twinsServe() *atomic.Bool {
	if t := d.mates.team; t != nil {
		return &t.twins
	}
	return &d.twins
}

// opening reports whether the packet p in frame is of a handshake that a listener has
// answered.
func (d *demux) opening(p *ip.Packet, frame []byte, now int64) bool {
	if p.Proto != ip.ProtoTCP || len(frame) < p.L4Off {
		return false
	}
	var seg tcp.Segment
	if _, err := seg.Parse(frame[p.L4Off:], p.L4Len); err != nil {
		return false
	}
	src, dst := tcp.Ports(frame[p.L4Off:])
	seg.Local, seg.Remote = netip.AddrPortFrom(p.Dst, dst), netip.AddrPortFrom(p.Src, src)
	l := d.listener(seg.Local, seg.Remote)
	return l != nil && l.tl.Opening(&seg, now)
}

func (d *demux) init(inlet Inlet) {
	d.inlet = inlet
	d.seed = maphash.MakeSeed()
	d.flows = newTable(func(c *TCPConn) uint64 { return flowHash(d.seed, c.tc.Local(), c.tc.Remote()) })
	d.timeWaits = newTable(func(t *timeWait) uint64 { return flowHash(d.seed, t.local(), t.remote()) })
	d.listeners = make(boundTable[*TCPListener])
	d.udps = make(boundTable[*UDPConn])
	d.udpFlows = make(map[flowKey]*UDPConn)
}

// addConn, addTimeWait and addUDP also have the inlet take what is for them.
func (d *demux) addConn(c *TCPConn) {
	d.flows.add(c)
	if d.inlet != nil {
		d.inlet.Add(false, c.tc.Local(), c.tc.Remote())
	}
}

// established enters c into the table of connections.
func (d *demux) established(c *TCPConn) {
	if d.table == nil || c.dst.on != nil && c.dst.on.host != nil { // no kernel would answer
		return
	}
	c.slot = d.table.Add(c.tc.Local(), c.tc.Remote(), c.dst.link(), c.tc.FirstOctet())
}

func (d *demux) removeConn(c *TCPConn) {
	d.flows.remove(c)
	if d.table != nil {
		d.table.Remove(c.slot)
		c.slot = 0
	}
	if d.lastConn == c {
		d.lastConn = nil
	}
	if d.inlet != nil {
		d.inlet.Remove(false, c.tc.Local(), c.tc.Remote())
	}
}

func (d *demux) addTimeWait(t *timeWait) {
	d.timeWaits.add(t)
	if d.inlet != nil {
		d.inlet.Add(false, t.local(), t.remote())
	}
}

func (d *demux) removeTimeWait(t *timeWait) {
	d.timeWaits.remove(t)
	if d.inlet != nil {
		d.inlet.Remove(false, t.local(), t.remote())
	}
}

func (d *demux) addUDP(u *UDPConn) {
	d.udpFlows[u.flow] = u
	if d.inlet != nil {
		d.inlet.Add(true, u.local, u.remote)
	}
}

// removeUDP removes u if it is a connected socket.
func (d *demux) removeUDP(u *UDPConn) {
	if !u.remote.IsValid() || d.udpFlows[u.flow] != u {
		return
	}
	delete(d.udpFlows, u.flow)
	d.mates.release(ip.ProtoUDP, u.local, u.remote)
	if d.inlet != nil {
		d.inlet.Remove(true, u.local, u.remote)
	}
}

// lookup makes lastConn the connection of the segment in p whose header is b, nil
// if there is none, and completes seg. ports are those of b, as on the wire.
func (d *demux) lookup(p *ip.Packet, seg *tcp.Segment, b []byte, ports uint32) {
	d.lastPorts = ports
	seg.Local = netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(b[2:]))
	seg.Remote = netip.AddrPortFrom(p.Src, binary.BigEndian.Uint16(b[0:]))
	if c := d.lastConn; c == nil || !c.tc.Between(seg.Local, seg.Remote) {
		d.lastConn = d.conn(seg.Local, seg.Remote)
	}
}

// conn returns the TCP connection between two ends, or nil.
func (d *demux) conn(local, remote netip.AddrPort) *TCPConn {
	if d.flows.len() == 0 {
		return nil
	}
	return d.flows.find(flowHash(d.seed, local, remote), func(c *TCPConn) bool { return c.tc.Between(local, remote) })
}

// timeWaitOf returns the connection in TIME-WAIT between two ends, or nil.
func (d *demux) timeWaitOf(local, remote netip.AddrPort) *timeWait {
	if d.timeWaits.len() == 0 {
		return nil
	}
	return d.timeWaits.find(flowHash(d.seed, local, remote), func(t *timeWait) bool {
		return t.local() == local && t.remote() == remote
	})
}

// listener returns the socket that listens on local for remote, or nil.
func (d *demux) listener(local, remote netip.AddrPort) *TCPListener {
	return bound(d.listeners, d.seed, local, remote)
}

// udpSocket returns the socket that a datagram from remote to local is for: one
// connected to its sender first, then one bound to its port; or nil.
func (d *demux) udpSocket(local, remote netip.AddrPort) *UDPConn {
	if len(d.udpFlows) > 0 {
		if u := d.udpFlows[makeFlowKey(local, remote)]; u != nil {
			return u
		}
	}
	return bound(d.udps, d.seed, local, remote)
}

// connected reports whether the packet p in frame belongs to a connection or to a
// connected UDP socket, of this stack or of another of its team.
func (d *demux) connected(p *ip.Packet, frame []byte) bool {
	if len(frame) < p.L4Off+4 {
		return false
	}
	local := netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(frame[p.L4Off+2:]))
	remote := netip.AddrPortFrom(p.Src, binary.BigEndian.Uint16(frame[p.L4Off:]))
	switch p.Proto {
	case ip.ProtoTCP:
		if d.conn(local, remote) != nil {
			return true
		}
	case ip.ProtoUDP:
		if len(d.udpFlows) > 0 && d.udpFlows[makeFlowKey(local, remote)] != nil {
			return true
		}
	default:
		return false
	}
	_, mates := d.mates.owner(p.Proto, local, remote)
	return mates
}

// bound returns the socket of b for a packet from remote to local: one bound to
// the exact address first, then one bound to all of its family.
func bound[T comparable](b boundTable[T], seed maphash.Seed, local, remote netip.AddrPort) (v T) {
	if len(b) == 0 {
		return v
	}
	var none T
	if v = b.find(portKey{local.Addr().As16(), local.Port()}, seed, local, remote); v != none {
		return v
	}
	wild := any6
	if local.Addr().Is4() {
		wild = any4
	}
	return b.find(portKey{wild, local.Port()}, seed, local, remote)
}

// flowHash is keyed, so that nobody outside can choose flows that collide
// (attack 24). Its values never leave the stack.
func flowHash(seed maphash.Seed, local, remote netip.AddrPort) uint64 {
	if local.Addr().Is4() {
		var b [12]byte
		l, r := local.Addr().As4(), remote.Addr().As4()
		copy(b[0:], l[:])
		copy(b[4:], r[:])
		binary.NativeEndian.PutUint16(b[8:], local.Port())
		binary.NativeEndian.PutUint16(b[10:], remote.Port())
		return maphash.Bytes(seed, b[:])
	}
	var b [36]byte
	l, r := local.Addr().As16(), remote.Addr().As16()
	copy(b[0:], l[:])
	copy(b[16:], r[:])
	binary.NativeEndian.PutUint16(b[32:], local.Port())
	binary.NativeEndian.PutUint16(b[34:], remote.Port())
	return maphash.Bytes(seed, b[:])
}
