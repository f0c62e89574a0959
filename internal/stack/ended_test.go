package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// scripted is a connection of the victim whose peer is the test.
type scripted struct {
	v    *prey
	from netip.AddrPort
	isn  uint32 // the victim's; that of the peer is 1000
	conn *TCPConn
}

const scriptISN = 1000

// open opens a connection from port, up to Accept.
func (v *prey) open(t *testing.T, port uint16) *scripted {
	t.Helper()
	bad := netip.MustParseAddr("10.0.0.66")
	v.cfg.Net.(*control.Static).SetNeighbor(1, bad, macs[addrA])
	k := &scripted{v: v, from: netip.AddrPortFrom(bad, port)}
	k.turn(forged{flags: tcp.FlagSYN, seq: scriptISN})
	k.isn = v.ofEnd(k.from).isn
	k.turn(forged{flags: tcp.FlagACK, seq: scriptISN + 1, ack: k.isn + 1})
	c, _, err := v.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k.conn = c
	return k
}

// turn has the victim receive segments in one poll turn.
func (k *scripted) turn(segs ...forged) {
	v, to := k.v, k.v.listener.Addr()
	v.begin()
	for _, f := range segs {
		v.cfg.Links[0].Steering.(*sim.Device).Inject(0, packetOf(k.from.Addr(), to.Addr(), ip.ProtoTCP, tcpOf(k.from, to, f)))
	}
	v.poll()
	v.end()
}

// RFC 9293 section 3.10.7.1: a segment behind the one that ended a connection, in
// the same turn, is answered as it would be a turn later.
func TestSegmentBehindTheLast(t *testing.T) {
	const next = scriptISN + 1 // of the peer
	for i, tt := range []struct {
		name string
		user func(k *scripted) // what happens before
		last forged            // ack is relative to the victim's ISN
	}{
		{"LAST-ACK", func(k *scripted) {
			k.turn(forged{flags: tcp.FlagFIN | tcp.FlagACK, seq: next, ack: k.isn + 1})
			k.conn.Close()
		}, forged{flags: tcp.FlagACK, seq: next + 1, ack: 2}},
		{"reset", func(*scripted) {}, forged{flags: tcp.FlagRST, seq: next}},
		{"data for nobody", func(k *scripted) { k.conn.Close() },
			forged{flags: tcp.FlagACK, seq: next, ack: 1, data: []byte("x")}},
		{"TIME-WAIT", func(k *scripted) { k.conn.Close() },
			forged{flags: tcp.FlagFIN | tcp.FlagACK, seq: next, ack: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newPrey(t, pairOptions{})
			port := uint16(3000 + 10*i)

			k := v.open(t, port)
			tt.user(k)
			before := v.ofEnd(k.from)
			last := tt.last
			last.ack += k.isn
			k.turn(last, forged{flags: tcp.FlagACK, seq: next + 1, ack: k.isn + 2, data: []byte("later")})
			after := v.ofEnd(k.from)
			acks, resets := after.acks-before.acks, after.resets-before.resets
			switch tt.name {
			case "TIME-WAIT":
				if acks != 2 || resets != 0 {
					t.Errorf("%d acknowledgements, %d resets; want an acknowledgement for each", acks, resets)
				}
			case "data for nobody":
				if resets != 2 {
					t.Errorf("%d resets, want one for each segment", resets)
				}
			default:
				if acks != 0 || resets != 1 {
					t.Errorf("%d acknowledgements, %d resets; want one reset", acks, resets)
				}
			}

			// A SYN there opens the next connection.
			k = v.open(t, port+1)
			tt.user(k)
			last = tt.last
			last.ack += k.isn
			k.turn(last, forged{flags: tcp.FlagSYN, seq: next + 1<<20})
			isn := v.ofEnd(k.from).isn
			if isn == k.isn {
				t.Fatal("the SYN got no answer")
			}
			k.turn(forged{flags: tcp.FlagACK, seq: next + 1<<20 + 1, ack: isn + 1})
			c, _, err := v.listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			v.unnoticed(t)
		})
	}
}
