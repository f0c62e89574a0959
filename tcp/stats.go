package tcp

import "reflect"

// Counter is a statistic. It belongs to the holder of the stack lock.
type Counter uint64

// Add counts n more.
func (c *Counter) Add(n uint64) { *c += Counter(n) }

// Load is the count so far.
func (c *Counter) Load() uint64 { return uint64(*c) }

// Stats counts events of TCP. A counter that Linux has too, in /proc/net/snmp or
// /proc/net/netstat, has its name and meaning.
type Stats struct {
	// RFC 4022 (snmp).
	ActiveOpens  Counter `help:"connections opened from here"`
	PassiveOpens Counter `help:"connections accepted"`
	AttemptFails Counter `help:"connections that failed before they were established"`
	EstabResets  Counter `help:"established connections that were reset"`
	InSegs       Counter `help:"segments received"`
	OutSegs      Counter `help:"segments sent, retransmissions included (Linux leaves them out)"`
	RetransSegs  Counter `help:"segments sent again"`
	OutRsts      Counter `help:"resets sent"`

	// Handshakes.
	SyncookiesSent            Counter `help:"SYN-ACKs sent with a cookie"`
	SyncookiesRecv            Counter `help:"connections made from a cookie"`
	SyncookiesFailed          Counter `help:"cookies that came back wrong or too late"`
	TCPReqQFullDoCookies      Counter `help:"SYNs answered with a cookie because the SYN queue was full"`
	ListenOverflows           Counter `help:"SYNs and final ACKs dropped because the accept queue was full"`
	ListenDrops               Counter `help:"SYNs and final ACKs dropped by a listener for any reason"`
	TCPDeferAcceptDrop        Counter `help:"final ACKs without data put aside by TCP_DEFER_ACCEPT"`
	EmbryonicRsts             Counter `help:"half-open connections reset by the peer"`
	TCPSynRetrans             Counter `help:"SYNs and SYN-ACKs sent again"`
	TCPTimeouts               Counter `help:"retransmission timeouts, handshakes included"`
	TCPACKSkippedSynRecv      Counter `help:"answers to half-open connections left out by rate limit"`
	TCPFastOpenActive         Counter `help:"SYNs whose data was acknowledged"`
	TCPFastOpenActiveFail     Counter `help:"SYNs whose data was not"`
	TCPFastOpenBlackhole      Counter `help:"connections opened without Fast Open because the path ate SYNs with it"`
	TCPFastOpenPassive        Counter `help:"connections accepted by Fast Open"`
	TCPFastOpenPassiveFail    Counter `help:"SYNs with a cookie for Fast Open that was not good"`
	TCPFastOpenPassiveAltKey  Counter `help:"SYNs with a cookie for Fast Open that is about to expire"`
	TCPFastOpenListenOverflow Counter `help:"SYNs for Fast Open when too many such connections were half-open"`
	TCPFastOpenCookieReqd     Counter `help:"SYNs that asked for a cookie for Fast Open"`
	PAWSEstab                 Counter `help:"segments refused because of an old timestamp"`
	TSEcrRejected             Counter `help:"segments refused because they echo a timestamp never sent"`
	TCPChallengeACK           Counter `help:"challenge ACKs sent (RFC 5961)"`
	TCPSYNChallenge           Counter `help:"SYNs received in the window of a connection"`
	TCPACKSkippedSeq          Counter `help:"answers to segments outside of the window left out by rate limit"`
	TCPACKSkippedTimeWait     Counter `help:"answers in TIME-WAIT left out by rate limit"`
	TW                        Counter `help:"connections that went into TIME-WAIT"`
	TCPTimeWaitOverflow       Counter `help:"connections that skipped TIME-WAIT because there were too many"`
	TWRecycled                Counter `help:"connections in TIME-WAIT replaced by a new one"`
	SynMalformed              Counter `help:"SYNs dropped in silence: with FIN, from ourselves, or to many (not in Linux)"`
	BogusFlags                Counter `help:"segments dropped in silence: no flag that opens, carries or ends anything, or flags that contradict each other (not in Linux)"`
	TCPSackRecovery           Counter `help:"fast recoveries with SACK"`
	TCPRenoRecovery           Counter `help:"fast recoveries without SACK"`
	TCPFastRetrans            Counter `help:"segments sent again in fast recovery"`
	TCPSlowStartRetrans       Counter `help:"segments sent again after a timeout"`
	TCPLostRetransmit         Counter `help:"frames whose retransmission was found lost"`
	TCPLossProbes             Counter `help:"tail loss probes sent"`
	TCPLossProbeRecovery      Counter `help:"losses repaired by a tail loss probe"`
	TCPLossUndo               Counter `help:"timeouts taken back"`
	TCPSpuriousRTOs           Counter `help:"timeouts that F-RTO found to be spurious"`
	TCPFullUndo               Counter `help:"recoveries taken back because of timestamps"`
	TCPDSACKUndo              Counter `help:"recoveries taken back because of DSACK"`
	TCPSACKReneging           Counter `help:"peers that dropped what they had SACKed"`
	TCPSACKReorder            Counter `help:"acknowledgements that showed reordering"`
	TCPHPHits                 Counter `help:"segments received by the fast path"`
	TCPDSACKOldSent           Counter `help:"duplicates received of data received in order before"`
	TCPDSACKOfoSent           Counter `help:"duplicates received of data received out of order before"`
	TCPDSACKRecv              Counter `help:"DSACKs received for data acknowledged"`
	TCPDSACKIgnoredDubious    Counter `help:"DSACKs received for more than was sent again"`
	InCEPkts                  Counter `help:"segments received with a congestion mark (Linux counts all packets)"`
	TCPECNReductions          Counter `help:"times that a peer's echo of congestion marks lowered the window (not in Linux)"`
	DelayedACKs               Counter `help:"delayed acknowledgements sent by the timer"`
	TCPOFOQueue               Counter `help:"segments queued out of order"`
	TCPRcvCollapsed           Counter `help:"frames freed by coalescing small segments"`
	OfoPruned                 Counter `help:"out-of-order segments dropped because frames ran low"`
	TCPRcvQDrop               Counter `help:"segments dropped because the receive queue was full"`
	TCPZeroWindowDrop         Counter `help:"segments dropped because the window was shut"`
	TCPWinProbe               Counter `help:"zero-window probes sent"`
	TCPKeepAlive              Counter `help:"keepalive probes sent"`
	TCPAbortOnData            Counter `help:"connections aborted: data came after Close, or linger of zero"`
	TCPAbortOnClose           Counter `help:"connections aborted: closed with data unread"`
	TCPAbortFailed            Counter `help:"resets that could not be sent"`
	TCPAbortOnTimeout         Counter `help:"connections aborted: the peer did not answer in time"`
	TCPAbortOnMemory          Counter `help:"closed connections aborted: too many, or memory ran low"`
	TCPAbortOnLinger          Counter `help:"closed connections aborted in FIN-WAIT-2"`
	TCPOutNoFrames            Counter `help:"control segments not sent because no frame was free (not in Linux)"`
	OutOfWindowIcmps          Counter `help:"ICMP errors that quote nothing in flight"`
	TCPMTUPSuccess            Counter `help:"probes of the path's MTU that passed"`
	TCPMTUPFail               Counter `help:"probes of the path's MTU that were lost"`
	TCPPathMTULowered         Counter `help:"times that ICMP lowered a path's MTU (not in Linux)"`
}

// Each calls f for every counter, with its meaning.
func (s *Stats) Each(f func(name, help string, n uint64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		f(t.Name, t.Tag.Get("help"), v.Field(i).Uint())
	}
}
