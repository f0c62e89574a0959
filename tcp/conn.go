package tcp

import (
	"math"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Conn is one TCP connection: segments and time in, segments and events out.
//
// Read, Write, Readable, Writable, Err, State and Linger may be called without the
// stack lock, by one reader and one writer at a time. All else needs it.
type Conn struct {
	h     *Host
	owner Owner
	cc    Congestion

	// Shared with the reader and the writer.
	sndBox   ring.Mailbox  // written, not yet on the send queue
	rcvBox   ring.Mailbox  // in order, not yet taken by the reader
	state    atomic.Uint32 // State; stored under the lock
	errno    atomic.Uint32 // why the connection died; 0: it lives, or ended well
	flags    atomic.Uint32 // shared* bits
	chunk    atomic.Uint32 // payload that the writer puts in a frame
	packet   atomic.Uint32 // payload of the largest packet that may be sent
	sndLimit atomic.Uint32 // size of the send buffer
	rcvLimit atomic.Uint32 // size of the receive buffer
	rcvClamp atomic.Uint32 // most that the window may be, bytes
	rcvEdge  atomic.Uint32 // window last advertised, bytes
	linger   atomic.Int32  // seconds; -1: default
	sndUsed  usage         // written and not acknowledged
	rcvUsed  usage         // received in order and not read

	readList ring.Frame // the reader's own: taken, not yet read

	pair                  *Pair
	localPort, remotePort uint16
	pseudo                uint16 // checksum of the pseudo-header without the length
	mtu                   uint16 // of the path; the largest IP packet
	mss                   uint16 // payload of a full segment that we send
	peerMSS               uint16 // what the peer accepts, from its option
	tso                   uint16 // largest IP packet that the path's device segments; 0: none
	softErr               uint16 // errno of the last soft ICMP error
	mark                  mark   // lock holder's flags
	sndWS, rcvWS          uint8
	recovery              recoveryState
	ecn                   ecnState

	// Send sequence space (RFC 9293 section 3.3.1).
	sndUna, sndNxt uint32
	sndWnd, maxWnd uint32
	sndWL1         uint32 // sequence number of the last window update
	sndSmall       uint32 // end of the last segment below the MSS (Minshall)
	finSeq         uint32 // of the peer's FIN, where markFinSeen

	// Receive sequence space.
	rcvNxt   uint32
	rcvAdv   uint32 // right edge that we advertised; never moves back
	rcvAcked uint32 // acknowledgement number of our last segment

	// Send queue: frames by sequence number. [sndHead, sndNext) is sent.
	sndHead, sndNext, sndTail ring.Frame
	// The same frames by time of last transmission, without the SACKed and
	// the lost (RFC 8985).
	timeHead, timeTail ring.Frame
	sackHint           ring.Frame // where the last SACK block was found
	lostHint           ring.Frame // no frame before it waits for retransmission
	// Parts of what is in flight, bytes.
	sacked, lost, retrans uint32
	dupSacked             uint32 // stands for sacked where the peer has no SACK

	ooo  *reassembly // nil while everything came in order
	rare *rareState  // never nil; written to through makeRare only

	rtt  RTT
	rack rack

	// Recovery.
	recoverSeq   uint32 // SND.NXT when recovery began
	undoSeq      uint32 // SND.UNA then
	undoRetrans  int32  // retransmissions not yet reported as duplicates; -1: there was none
	retransStamp uint32 // our timestamp of the first retransmission that may be in flight
	prrState
	mostOut    uint32 // most bytes in flight recently, until mostOutSeq is acknowledged
	mostOutSeq uint32
	tlpState
	ecnSeq  uint32 // SND.NXT when the window was last lowered, where ecnHold
	dupAcks uint8

	reordering uint8 // extent of reordering that the path showed, segments

	backoff uint8 // of the retransmission timer
	kept    uint8 // part of it that stays until a round trip is measured (Karn)
	retries uint8 // unanswered retransmissions, or SYNs
	persistState

	// Acknowledgement.
	quick      uint8  // segments to acknowledge at once
	gatherOff  uint8  // acknowledgements that are not to wait for more segments
	gatherStop uint8  // how often the stream stopped while one waited; see gatherPause
	collapseAt uint32 // frames held at which to collapse again
	rcvMSS     uint16 // the peer's segment size, estimated
	tsRecent   uint32
	tsOffset   uint32
	dsackState

	tsRecentAt uint32 // ms
	keepState
	userLimit  uint32 // ms
	synRetries uint8  // as Config says; 0: connectRetries

	// Timers, absolute; 0 is off.
	rtoAt   int64 // retransmission, zero-window probe or SYN
	rackAt  int64 // reordering window
	ackAt   int64 // delayed acknowledgement
	keepAt  int64 // keepalive, or end of FIN-WAIT-2
	retryAt int64 // writer to be woken when frames may be free

	lastRcv  int64 // last segment from the peer
	lastData int64 // last data received
	lastSnd  int64 // last data sent
	usedAt   int64 // when cwnd last held data back, or was lowered because it did not
	stuckAt  int64 // since when the peer did not acknowledge, or kept its window shut
	oowAt    int64 // last answer to an unacceptable segment

	delivered uint64 // bytes that the peer is known to have
	received  uint64 // bytes received in order

	segsIn, segsOut uint32 // packets, for Info

	cwndUsed uint32 // most of cwnd that was used since usedAt
}

// usage counts payload bytes and the frames that hold them, together.
type usage struct{ v atomic.Int64 }

func (u *usage) add(frames, bytes int) { u.v.Add(int64(frames)<<32 + int64(bytes)) }

func (u *usage) load() (frames, bytes int) {
	v := u.v.Load()
	return int(v >> 32), int(uint32(v))
}

// rareState has what few connections need. Connections that need none of it share
// noRare.
type rareState struct {
	search *mtuSearch // nil until a search for the path's MTU began
	tune   *tuning    // nil until the window is as large as the buffer
	rate   *rateState // nil: no delivery rate samples are taken
	fo     *fastOpen  // nil but in a handshake with Fast Open

	retransBytes uint64 // payload sent again
	reneged      uint64 // bytes that the peer SACKed and dropped: delivered counts them twice
	retransSegs  uint32 // segments sent again
	finWait2     int32  // ms, as Config says; below 0: none
	maxSeg       uint16 // as Config says; 0: no bound
	advMSS       uint16 // as the route says; 0: nothing
	dsackDups    uint32 // duplicates reported to us, segments

	limit limitTimes
}

var noRare rareState

// makeRare returns c's rare state, to be written to.
func (c *Conn) makeRare() *rareState {
	if c.rare == &noRare {
		c.rare = new(rareState)
	}
	return c.rare
}

// retransmitted is how many segments were sent again.
func (c *Conn) retransmitted() uint32 { return c.rare.retransSegs }

// countRetrans counts a segment that was sent again.
func (c *Conn) countRetrans(bytes int) {
	r := c.makeRare()
	r.retransSegs++
	r.retransBytes += uint64(bytes)
	c.h.Stats.RetransSegs.Add(1)
}

// Bits of Conn.flags.
const (
	sharedWantWrite = 1 << iota // the writer found no room
	sharedNoWrite               // no more may be written
	sharedNoRead                // no more will be read
	sharedEOF                   // the peer's FIN is in order
	sharedUnscaled              // our windows have no scale
	sharedTaken                 // the user accepted it
	sharedStuck                 // see setStuck
)

// mark is a set of flags of the lock holder.
type mark uint64

const (
	markNoDelay   mark = 1 << iota
	markSACK           // negotiated
	markTS             // negotiated
	markWS             // negotiated
	markNoSACK         // configured
	markNoTS           // configured
	markNoWS           // configured
	markAckNow         // an acknowledgement is due
	markDSACK          // dsackLo, dsackHi are to be reported
	markFinSeen        // finSeq is known
	markFinWanted      // send FIN after what was written
	markFinQueued      // the FIN is on the send queue
	markFinAcked       // it is acknowledged
	markOrphan         // the user closed it
	markKeepAlive
	markPassive
	markPingPong   // data flows both ways: delay acknowledgements
	markPersist    // rtoAt is a zero-window probe
	markLimited    // cwnd holds data back
	markReordered  // the path was seen to reorder
	markDead       // done was called
	markRescued    // rescue retransmission done in this recovery
	markNoFrames   // an acknowledgement could not be sent
	markPTO        // rtoAt is a tail loss probe (RFC 8985 section 7)
	markTLP        // such a probe is in flight
	markTLPRetrans // it is a retransmission
	markUndo       // the last reduction may prove needless
	markTimeout    // it was for a timeout
	markFRTO       // the timeout may be spurious (RFC 5682)
	markFRTONew    // find out by sending new data
	markNoSample   // no RTT sample came since
	markGather     // an acknowledgement waits for more segments
	markRcvFixed   // the size of the receive buffer was set
	markSndFixed   // that of the send buffer was
	markMTUOff     // no search for the path's MTU
	markMTUAlways  // it begins at once
	markKeepCwnd   // configured: cwnd outlives silence
	markWatched    // what limits the sender is timed, for Info
	markSYNData    // the SYN carried data that was taken
	markQuickAck   // the route says that no acknowledgement is delayed
	markFrozen     // Freeze has stopped it
)

func (c *Conn) has(m mark) bool { return c.mark&m != 0 }
func (c *Conn) set(m mark)      { c.mark |= m }
func (c *Conn) clear(m mark)    { c.mark &^= m }

// Pair is the addresses of a connection's two ends.
type Pair struct{ Local, Remote netip.Addr }

// Name sets the ends of c, which is zero, before Init. All connections between
// two hosts may share p, so that their addresses are in memory once.
func (c *Conn) Name(p *Pair, localPort, remotePort uint16) {
	c.pair, c.localPort, c.remotePort = p, localPort, remotePort
}

// Init prepares c, which must be zero but for Name, for Connect or Passive.
func (c *Conn) Init(h *Host, o Owner, cfg *Config, local, remote netip.AddrPort) {
	c.h, c.owner, c.rare = h, o, &noRare
	if c.pair == nil {
		c.Name(&Pair{local.Addr(), remote.Addr()}, local.Port(), remote.Port())
	}
	c.pseudo = ip.PseudoSum(local.Addr(), remote.Addr(), ip.ProtoTCP, 0)
	c.readList = ring.NoFrame
	c.sndHead, c.sndNext, c.sndTail = ring.NoFrame, ring.NoFrame, ring.NoFrame
	c.timeHead, c.timeTail = ring.NoFrame, ring.NoFrame
	c.sackHint, c.lostHint = ring.NoFrame, ring.NoFrame
	c.rcvLimit.Store(uint32(clampBuf(cfg.RcvBuf)))
	c.sndLimit.Store(uint32(clampBuf(cfg.SndBuf)))
	c.mtu = uint16(min(cfg.mtu(), 0xffff))
	c.tso = uint16(min(h.TSO, 0xffff))
	c.linger.Store(-1)
	c.rcvWS = cfg.rcvWScale()
	c.tsOffset = h.TSOffset(local, remote)
	c.setIf(markNoDelay, cfg.NoDelay)
	c.setIf(markMTUOff, cfg.MTUProbing == MTUProbeOff)
	c.setIf(markKeepCwnd, cfg.KeepIdleCwnd)
	c.setIf(markMTUAlways, cfg.MTUProbing == MTUProbeAlways)
	c.setIf(markRcvFixed, cfg.RcvBuf > 0)
	c.setIf(markSndFixed, cfg.SndBuf > 0)
	c.setIf(markNoSACK, cfg.NoSACK)
	c.setIf(markNoTS, cfg.NoTimestamps)
	c.setIf(markNoWS, cfg.NoWindowScale)
	c.userLimit = millis(cfg.UserTimeout)
	if cfg.FastOpenConnect {
		c.makeRare().fo = &fastOpen{bare: cfg.FastOpenNoCookie}
	}
	if cfg.ECN == ECNOn {
		c.ecn = ecnAsk
	}
	c.SetSYNRetries(cfg.SYNRetries)
	c.keepConfig(cfg.KeepAlive)
	c.configRare(cfg)
	c.setPeerMSS(defaultMSS(local.Addr()))
	c.updateMSS()
	c.cc.Init(cfg.Congestion, int(c.mss))
	if c.cc.models {
		c.sampleRate()
	}
	c.rtt.Init()
	c.SetMaxPacingRate(cfg.MaxPacingRate)
	c.reordering = dupThresh
	c.quick = quickAcks
	c.rcvMSS = minRcvMSS
	c.rcvClamp.Store(initialClamp)
	c.follow(cfg)
}

func (c *Conn) setIf(m mark, on bool) {
	if on {
		c.set(m)
	} else {
		c.clear(m)
	}
}

func millis(d time.Duration) uint32 {
	return uint32(min(max(int64(d/time.Millisecond), 0), math.MaxInt32))
}

// Owner returns what Init was given.
func (c *Conn) Owner() Owner { return c.owner }

// Local returns the local address.
func (c *Conn) Local() netip.AddrPort { return netip.AddrPortFrom(c.pair.Local, c.localPort) }

// Remote returns the peer's address.
func (c *Conn) Remote() netip.AddrPort { return netip.AddrPortFrom(c.pair.Remote, c.remotePort) }

// Between reports whether c is the connection of these two ends.
func (c *Conn) Between(local, remote netip.AddrPort) bool {
	return c.remotePort == remote.Port() && c.localPort == local.Port() &&
		c.pair.Remote == remote.Addr() && c.pair.Local == local.Addr()
}

// ipHeaderLen is the length of the IP headers of what we send.
func (c *Conn) ipHeaderLen() int { return ipHeaderLen(c.pair.Local) }

// State returns the state. Safe without the lock.
func (c *Conn) State() State { return State(c.state.Load()) }

func (c *Conn) setState(s State) { c.state.Store(uint32(s)) }

// Err returns the error that ended the connection; nil while it lives, or if it
// ended well. Load it before Read: an error comes after all data that can be read.
// Safe without the lock.
func (c *Conn) Err() error {
	if e := c.errno.Load(); e != 0 {
		return syscall.Errno(e)
	}
	return nil
}

// Free releases every frame. It is called once, when the protocol is done
// (EvClosed or EvTimeWait) and no user is left.
func (c *Conn) Free() {
	c.setState(Closed)
	c.dropSendQueue()
	c.dropOOO()
	c.dropReceived()
	for f := c.readList; f != ring.NoFrame; {
		next := c.h.Arena.Meta(f).Next
		c.h.Cache.Free(f)
		f = next
	}
	c.readList = ring.NoFrame
}

// done ends the connection. Read and Write return errno from now on.
func (c *Conn) done(errno syscall.Errno) {
	if c.has(markDead) {
		return
	}
	c.set(markDead)
	c.countOrphan(-1)
	c.leaveFastOpen()
	ev := EvClosed | EvReadable | EvWritable | EvHup
	if errno != 0 {
		c.errno.Store(uint32(errno))
		ev |= EvError
	}
	if st := c.State(); st == SynSent || st == SynReceived {
		c.h.Stats.AttemptFails.Add(1)
	}
	c.stop(Closed)
	c.owner.Notify(ev)
}

// ackedBytes returns how many bytes the peer has acknowledged, the FIN as one of them.
func (c *Conn) ackedBytes() uint64 { return c.delivered - c.rare.reneged - uint64(c.sacked) }

// stop releases what only a living connection needs.
func (c *Conn) stop(s State) {
	c.setState(s)
	c.flags.Or(sharedNoWrite)
	c.delivered -= uint64(c.sacked) // the rest of it never was
	c.dropSendQueue()
	c.dropOOO()
	if c.has(markOrphan) {
		c.dropReceived()
	}
	c.rtoAt, c.rackAt, c.ackAt, c.keepAt, c.retryAt = 0, 0, 0, 0, 0
	if p := c.cc.pacer; p != nil {
		p.at = 0
	}
	c.clear(markAckNow | markDSACK | markGather)
}

// timeWait hands the connection over to a TimeWait record: RFC 9293 section
// 3.10.7.4, all that is left to do is to acknowledge retransmitted FINs.
func (c *Conn) timeWait(now int64) {
	c.sendAck(now)
	c.h.Stats.TW.Add(1)
	c.set(markDead)
	c.countOrphan(-1)
	c.stop(TimeWaiting)
	c.owner.Notify(EvTimeWait | EvReadable | EvWritable | EvHup)
}
