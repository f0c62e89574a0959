package tcp

import "net/netip"

// Handshake has what a passive open learned before there was a Conn.
// Listener.handshake fills it, Conn.Passive reads it.
type Handshake struct {
	SentAt       int64  // time of the SYN-ACK; 0: it gives no RTT sample
	ISS, IRS     uint32 // initial sequence numbers, ours and the peer's
	RcvWnd       uint32 // window in our SYN-ACK, bytes
	TSOffset     uint32 // of our timestamps, see Host.TSOffset
	TSRecent     uint32 // the peer's latest timestamp
	MTU          int    // of the path, as ListenOwner.MTU; 0: as Config says
	MSS          uint16 // the peer's option; 0: none came
	SndWS, RcvWS int8   // window shifts; both -1 where not negotiated
	Retrans      uint8  // times that the SYN-ACK was sent again
	SACK, TS     bool   // negotiated
	ECN          bool   // negotiated (RFC 3168)
	NoECT        bool   // but a SYN that did not ask came too: send nothing ECN-capable
}

// handshake returns the passive open that e describes. e is in the queue, on its
// way there (Fast Open), or was brought back by a SYN cookie.
func (l *Listener) handshake(e *synEntry, local, remote netip.AddrPort) Handshake {
	hs := Handshake{
		SentAt: e.sentAt,
		ISS:    e.iss, IRS: e.irs,
		RcvWnd:   uint32(e.wnd),
		TSOffset: l.h.TSOffset(local, remote), TSRecent: e.tsRecent,
		MTU: l.mtu(local, remote), MSS: e.mss,
		SndWS: -1, RcvWS: -1,
		Retrans: e.resent,
		SACK:    e.has(synSACK), TS: e.has(synTS),
		ECN: e.has(synECN), NoECT: e.has(synNoECT),
	}
	if e.resent > 0 || e.has(synAcked) {
		hs.SentAt = 0 // Karn; or this is not its first acknowledgement
	}
	if e.sndWS >= 0 {
		hs.SndWS, hs.RcvWS = e.sndWS, int8(l.config(local, remote).rcvWScale())
	}
	return hs
}
