package stack

import "github.com/onload-go/onload/driver"

// drops are counters of received packets that were dropped.
type drops struct {
	of [len(dropReasons)]uint64

	// Why datagrams were dropped that udpErr counts. Goroutines without the stack lock
	// count here too, so a change alone says nothing.
	full, scarce uint64
}

// dropReasons say what the counters of drops.of count, in the words of captures. Where
// several have moved the first one's reason is told: it says most.
var dropReasons = [...]string{
	driver.DropReturned,
	driver.DropReturned,
	driver.DropNoSocket,
	driver.DropNoSocket,
	"bad length",
	"malformed",
	"impossible address, or not to us",
	"wrong checksum",
	"impossible flags",
	"SYN that no honest host sends",
	"the stack that has the flow is too busy",
	"accept queue full (ListenOverflows)",
	"refused by the listener (ListenDrops)",
	"wrong or late SYN cookie (SyncookiesFailed)",
	"put aside until data comes (TCPDeferAcceptDrop)",
	"old timestamp (PAWSEstab)",
	"timestamp that was never sent (TSEcrRejected)",
	"SYN in the window of a connection (TCPSYNChallenge)",
	"challenged (TCPChallengeACK)",
	"outside of the window (TCPACKSkippedSeq)",
	"window shut (TCPZeroWindowDrop)",
	"receive queue full (TCPRcvQDrop)",
	"duplicate of data received before (TCPDSACKOldSent)",
	"duplicate of data received out of order (TCPDSACKOfoSent)",
	"in TIME-WAIT, answers limited (TCPACKSkippedTimeWait)",
	"half-open, answers limited (TCPACKSkippedSynRecv)",
	"fragments that overlap",
	"fragments of a datagram that is too long",
	"first fragment without the headers",
	"fragment of impossible length",
	"fragments whose congestion marks contradict each other",
	"duplicate of a fragment",
}

const dropUDP = 4 // the place of udpErr in drops.of

// drops reads the counters. The lock is held.
func (s *Stack) drops() drops {
	c, t, f := &s.counters, &s.host.Stats, &s.fragments.Stats
	return drops{full: c.udpFull.Load(), scarce: c.udpScarce.Load(), of: [...]uint64{
		s.rx.returned, f.Returned, c.rxNoSocket.Load(), s.rx.refused, c.udpErr.Load(),
		c.rxMalformed.Load(), c.rxBogus.Load(), c.rxChecksum.Load(), t.BogusFlags.Load(), t.SynMalformed.Load(),
		c.handDrops.Load(),
		t.ListenOverflows.Load(), t.ListenDrops.Load(), t.SyncookiesFailed.Load(), t.TCPDeferAcceptDrop.Load(),
		t.PAWSEstab.Load(), t.TSEcrRejected.Load(), t.TCPSYNChallenge.Load(), t.TCPChallengeACK.Load(),
		t.TCPACKSkippedSeq.Load(), t.TCPZeroWindowDrop.Load(), t.TCPRcvQDrop.Load(),
		t.TCPDSACKOldSent.Load(), t.TCPDSACKOfoSent.Load(), t.TCPACKSkippedTimeWait.Load(), t.TCPACKSkippedSynRecv.Load(),
		f.Overlaps, f.Oversize, f.Tiny, f.Malformed, f.ECN, f.Duplicates,
	}}
}

// why is the reason of what has been dropped since was; empty: nothing was.
func (d *drops) why(was *drops) string {
	for i := range d.of {
		switch {
		case d.of[i] == was.of[i]:
		case i == dropUDP && d.full != was.full:
			return "receive buffer full"
		case i == dropUDP && d.scarce != was.scarce:
			return "short of memory"
		default:
			return dropReasons[i]
		}
	}
	return ""
}
