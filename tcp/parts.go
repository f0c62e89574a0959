package tcp

// The parts of a Conn that belong to one idea each. They are embedded: their fields
// are the Conn's, and take the same room.

// prrState is Proportional Rate Reduction (RFC 9937), see Conn.prr. All values are
// bytes, of this recovery.
type prrState struct {
	prrDelivered uint32
	prrSent      uint32
	prrFlight    uint32 // RecoverFS
}

// tlpState is the tail loss probe (RFC 8985 section 7).
type tlpState struct {
	tlpEnd uint32 // SND.NXT after a probe or rescue, where markTLP or markRescued
}

// persistState is probing a zero window (RFC 9293 section 3.8.6.1).
type persistState struct {
	persistProbes uint8 // unanswered
}

// dsackState is the duplicate to report (RFC 2883), where markDSACK.
type dsackState struct {
	dsackLo uint32
	dsackHi uint32
}

// keepState is keepalive (RFC 9293 section 3.8.4).
type keepState struct {
	keepIdle   uint32 // ms
	keepEvery  uint32 // ms
	keepCount  uint8
	keepProbes uint8 // unanswered
}
