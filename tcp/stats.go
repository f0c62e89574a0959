package tcp

import "reflect"

// Counter is a statistic. It belongs to the holder of the stack lock.
type Counter uint64

// Add counts n more.
func (c *Counter) Add(n uint64) { *c += Counter(n) }

// Load is the count so far.
func (c *Counter) Load() uint64 { return uint64(*c) }

// Stats counts what TCP did. A counter that Linux has too, in /proc/net/snmp
// or /proc/net/netstat, has its name and meaning.
type Stats struct {
	// RFC 4022 (snmp).
	ActiveOpens  Counter `help:"connections opened from here"`
	PassiveOpens Counter `help:"connections accepted"`
	AttemptFails Counter `help:"connections that failed before they were established"`
	EstabResets  Counter `help:"established connections that were reset"`
	InSegs       Counter `help:"segments received"`
	OutSegs      Counter `help:"segments sent, without those that carry only retransmissions"`
	RetransSegs  Counter `help:"segments sent again"`
	InErrs       Counter `help:"segments received that were malformed"`
	OutRsts      Counter `help:"resets sent"`
	InCsumErrors Counter `help:"segments received with a bad checksum"`

	// Handshakes.
	SyncookiesSent         Counter `help:"SYN-ACKs sent with a cookie"`
	SyncookiesRecv         Counter `help:"connections made from a cookie"`
	SyncookiesFailed       Counter `help:"cookies that came back wrong or too late"`
	TCPReqQFullDoCookies   Counter `help:"SYNs answered with a cookie because the SYN queue was full"`
	ListenOverflows        Counter `help:"SYNs and final ACKs dropped because the accept queue was full"`
	ListenDrops            Counter `help:"SYNs and final ACKs dropped by a listener for any reason"`
	EmbryonicRsts          Counter `help:"half-open connections reset by the peer"`
	TCPSynRetrans          Counter `help:"SYNs and SYN-ACKs sent again"`
	TCPTimeouts            Counter `help:"retransmission timeouts, handshakes included"`
	TCPACKSkippedSynRecv   Counter `help:"answers to half-open connections left out by rate limit"`
	PAWSEstab              Counter `help:"segments refused because of an old timestamp"`
	TSEcrRejected          Counter `help:"segments refused because they echo a timestamp never sent"`
	TCPSYNChallenge        Counter `help:"challenge ACKs sent in answer to a SYN"`
	TCPChallengeACK        Counter `help:"challenge ACKs sent (RFC 5961)"`
	TCPACKSkippedChallenge Counter `help:"challenge ACKs left out by rate limit"`
	TCPACKSkippedPAWS      Counter `help:"answers to segments refused by PAWS left out by rate limit"`
	TCPACKSkippedSeq       Counter `help:"answers to segments outside of the window left out by rate limit"`
	TCPACKSkippedTimeWait  Counter `help:"answers in TIME-WAIT left out by rate limit"`
	TW                     Counter `help:"connections that went into TIME-WAIT"`
	TWRecycled             Counter `help:"connections in TIME-WAIT replaced by a new one"`
	SynMalformed           Counter `help:"SYNs dropped in silence: with FIN, from ourselves, or to many (not in Linux)"`
	TCPTimeWaitOverflow    Counter `help:"connections that skipped TIME-WAIT for want of room"`
	TCPRetransFail         Counter `help:"retransmissions that could not be handed to the device"`
	TCPSpuriousRTOs        Counter `help:"timeouts found spurious by F-RTO (RFC 5682)"`
	TCPSlowStartRetrans    Counter `help:"segments sent again in slow start after a timeout"`
	TCPFastRetrans         Counter `help:"segments sent again in fast recovery"`
	TCPLostRetransmit      Counter `help:"retransmissions found lost"`
	TCPLossProbes          Counter `help:"tail loss probes sent (RFC 8985)"`
	TCPLossProbeRecovery   Counter `help:"losses repaired by a tail loss probe"`
	TCPRenoRecovery        Counter `help:"fast recoveries without SACK"`
	TCPSackRecovery        Counter `help:"fast recoveries with SACK"`
	TCPFullUndo            Counter `help:"recoveries taken back when all was acknowledged"`
	TCPPartialUndo         Counter `help:"recoveries taken back on a partial acknowledgement"`
	TCPDSACKUndo           Counter `help:"recoveries taken back because of DSACK"`
	TCPLossUndo            Counter `help:"timeouts taken back"`
	TCPSACKReneging        Counter `help:"peers that dropped what they had SACKed"`
	TCPSACKReorder         Counter `help:"reordering seen through SACK"`
	TCPTSReorder           Counter `help:"reordering seen through timestamps"`
	TCPSACKDiscard         Counter `help:"SACK blocks ignored: not of what is in flight"`
	TCPDSACKOldSent        Counter `help:"DSACKs sent for data received in order before"`
	TCPDSACKOfoSent        Counter `help:"DSACKs sent for data received out of order before"`
	TCPDSACKRecv           Counter `help:"DSACKs received for data acknowledged"`
	TCPDSACKOfoRecv        Counter `help:"DSACKs received for data SACKed"`
	TCPDelivered           Counter `help:"segments known to be delivered"`
	TCPOrigDataSent        Counter `help:"segments with data sent for the first time"`
	TCPPureAcks            Counter `help:"acknowledgements received without data"`
	DelayedACKs            Counter `help:"delayed acknowledgements sent by the timer"`
	DelayedACKLost         Counter `help:"duplicates received that hint at a lost acknowledgement"`
	TCPOFOQueue            Counter `help:"segments queued out of order"`
	TCPOFODrop             Counter `help:"segments out of order dropped for want of room"`
	TCPOFOMerge            Counter `help:"segments out of order that overlapped others"`
	OfoPruned              Counter `help:"out-of-order queues thrown away for want of frames"`
	RcvPruned              Counter `help:"segments dropped for want of receive buffer"`
	PruneCalled            Counter `help:"times that a receive buffer had to be squeezed"`
	TCPRcvCollapsed        Counter `help:"frames freed by coalescing small segments"`
	TCPRcvCoalesce         Counter `help:"segments merged into the frame before on arrival"`
	TCPRcvQDrop            Counter `help:"segments dropped because the receive queue was full"`
	TCPZeroWindowDrop      Counter `help:"segments dropped because the window was shut"`
	TCPFromZeroWindowAdv   Counter `help:"times that our window opened again"`
	TCPToZeroWindowAdv     Counter `help:"times that our window shut"`
	TCPWantZeroWindowAdv   Counter `help:"times that our window should have shut but could not be taken back"`
	TCPWinProbe            Counter `help:"zero-window probes sent"`
	TCPKeepAlive           Counter `help:"keepalive probes sent"`
	TCPAbortOnData         Counter `help:"connections aborted: data came after Close, or linger of zero"`
	TCPAbortOnClose        Counter `help:"connections aborted: closed with data unread"`
	TCPAbortOnMemory       Counter `help:"connections aborted for want of memory, or too many orphans"`
	TCPAbortOnTimeout      Counter `help:"connections aborted: the peer did not answer in time"`
	TCPAbortOnLinger       Counter `help:"closed connections aborted in FIN-WAIT-2"`
	TCPAbortFailed         Counter `help:"resets that could not be sent"`
	TCPMemoryPressures     Counter `help:"times that frames ran low"`
	TCPUnacceptableACKs    Counter `help:"segments refused because of their acknowledgement (RFC 5961 section 5; not in Linux)"`
	TCPOutNoFrames         Counter `help:"control segments not sent because no frame was free (not in Linux)"`
	OutOfWindowIcmps       Counter `help:"ICMP errors that quote nothing in flight"`
	TCPPathMTULowered      Counter `help:"times that ICMP lowered a path's MTU (not in Linux)"`
}

// Each calls f for every counter, with what it means.
func (s *Stats) Each(f func(name, help string, n uint64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		f(t.Name, t.Tag.Get("help"), v.Field(i).Uint())
	}
}
