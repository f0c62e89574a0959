package tcp

// Handshake is what a passive open learned before there was a Conn: the
// listener fills it, Conn.Passive takes it.
type Handshake struct {
	SentAt       int64  // time of the SYN-ACK; 0: no RTT sample may be taken from it
	ISS, IRS     uint32 // initial sequence numbers, ours and the peer's
	RcvWnd       uint32 // window in our SYN-ACK, bytes
	TSOffset     uint32 // of our timestamps, see Host.TSOffset
	TSRecent     uint32 // the peer's latest timestamp
	MTU          int    // of the path, as ListenOwner.MTU; 0: as Config says
	MSS          uint16 // the peer's option; 0: none came
	SndWS, RcvWS int8   // window shifts; both -1 where not negotiated
	Retrans      uint8  // times that the SYN-ACK was sent again
	SACK, TS     bool   // negotiated
	SYNCookie    bool   // learned from a SYN cookie, not from memory
	ECN          bool   // negotiated (RFC 3168)
	NoECT        bool   // but a SYN came too that did not ask: send nothing ECN-capable
}
