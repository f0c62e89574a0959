package onload

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// TCPInfo is the state of a TCP connection, as Linux's TCP_INFO.
type TCPInfo = tcp.Info

// TCPLimit is what keeps a connection from sending more: TCPInfo.Limit.
type TCPLimit = tcp.Limit

// The limits.
const (
	LimitIdle        = tcp.LimitIdle        // there is nothing to send, and nothing in flight
	LimitApplication = tcp.LimitApplication // all that was written is in flight
	LimitReceiver    = tcp.LimitReceiver    // the peer's window is full
	LimitSendBuffer  = tcp.LimitSendBuffer  // all of a full send buffer is in flight
	LimitCwnd        = tcp.LimitCwnd        // the congestion window is full
	LimitPacing      = tcp.LimitPacing      // the next packet waits for its time
)

// Info returns the state of the connection. Where the kernel carries it, it is
// that of getsockopt(TCP_INFO); Limit is inferred then, and never
// LimitSendBuffer. It is not in net.
func (c *TCPConn) Info() (TCPInfo, error) {
	if !c.ok() {
		return TCPInfo{}, syscall.EINVAL
	}
	if c.s != nil {
		i, err := c.s.Info()
		return i, c.opError("get", "getsockopt", err)
	}
	var i TCPInfo
	err := c.onSocket(func(fd int) (err error) { i, err = kernelInfo(fd); return err })
	return i, c.anyError("get", "getsockopt", err)
}

// SetCongestionControl chooses the congestion control, "cubic", "newreno" or
// "bbr", as TCP_CONGESTION does; the congestion window stays. Where the kernel
// carries the connection it may be any that the kernel has. The error of an
// unknown name is ENOENT. It is not in net.
func (c *TCPConn) SetCongestionControl(name string) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	var err error
	have := ""
	if c.s != nil {
		err = c.s.SetCongestion(name)
		have = "there are " + strings.Join(tcp.CongestionNames(), ", ")
	} else {
		err = c.onSocket(func(fd int) error {
			return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, kernelCongestion(name))
		})
		have = "the kernel has those in net.ipv4.tcp_available_congestion_control"
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		err = fmt.Errorf("congestion control %q: %w; %s", name, err, have)
	case errors.Is(err, syscall.EPERM):
		err = fmt.Errorf("congestion control %q: %w; net.ipv4.tcp_allowed_congestion_control does not have it", name, err)
	}
	return c.anyError("set", "setsockopt", err)
}

// SetMaxPacingRate bounds the rate of sending to so many bytes of payload per
// second, as SO_MAX_PACING_RATE does, and spreads the packets over time, by the
// congestion window where that is less (as sch_fq); a bound out of reach, such
// as math.MaxInt64, does only that. 0 takes the bound away, and the pacing where
// the connection is accelerated. It is not in net.
func (c *TCPConn) SetMaxPacingRate(bytesPerSecond uint64) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s != nil {
		return c.opError("set", "setsockopt", c.s.SetMaxPacingRate(bytesPerSecond))
	}
	if bytesPerSecond == 0 {
		bytesPerSecond = math.MaxUint64
	}
	return c.anyError("set", "setsockopt", c.onSocket(func(fd int) error {
		return unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, bytesPerSecond)
	}))
}

// onSocket calls f with the descriptor of a connection of the kernel's.
func (c *TCPConn) onSocket(f func(fd int) error) error {
	raw, err := c.k.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		if op, ok := err.(*net.OpError); ok {
			err = op.Err // the caller says which operation it was
		}
		return err
	}
	return failed
}

// kernelCongestion is the kernel's name of a congestion control.
func kernelCongestion(name string) string {
	if name == "newreno" {
		return "reno"
	}
	return name
}

// ourCongestion is our name of one of the kernel's.
func ourCongestion(name string) string {
	if name == "reno" {
		return "newreno"
	}
	return name
}

// kernelStates are ours for the kernel's (include/net/tcp_states.h).
var kernelStates = [...]tcp.State{
	1: tcp.Established, 2: tcp.SynSent, 3: tcp.SynReceived, 4: tcp.FinWait1, 5: tcp.FinWait2, 6: tcp.TimeWaiting,
	7: tcp.Closed, 8: tcp.CloseWait, 9: tcp.LastAck, 10: tcp.Closed, 11: tcp.Closing,
}

// Bits of tcpi_options (include/uapi/linux/tcp.h).
const (
	tcpiTimestamps = 1
	tcpiSACK       = 2
	tcpiWScale     = 4
	tcpiECN        = 8
	tcpiSYNData    = 32
)

func kernelInfo(fd int) (TCPInfo, error) {
	k, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return TCPInfo{}, err
	}
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return TCPInfo{}, err
	}
	i := infoOf(k)
	i.Congestion = ourCongestion(strings.TrimRight(name, "\x00"))
	i.Limit = limitOf(k, &i)
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		i.SoftError = syscall.Errno(n)
	}
	return i, nil
}

// infoOf is the kernel's struct in our words.
func infoOf(k *unix.TCPInfo) TCPInfo {
	us := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	mss := int(k.Snd_mss)
	i := TCPInfo{
		SendMSS: mss, RecvMSS: int(k.Rcv_mss), PathMTU: int(k.Pmtu),
		SACK: k.Options&tcpiSACK != 0, Timestamps: k.Options&tcpiTimestamps != 0, ECN: k.Options&tcpiECN != 0, FastOpened: k.Options&tcpiSYNData != 0, SendScale: -1, RecvScale: -1,
		RTO: us(k.Rto), RTT: us(k.Rtt), RTTVar: us(k.Rttvar),
		Cwnd: int(k.Snd_cwnd) * mss, Ssthresh: int(k.Snd_ssthresh) * mss,
		SendWindow: int(k.Snd_wnd), RecvWindow: int(k.Rcv_wnd),
		Unsent: int(k.Notsent_bytes), SACKed: int(k.Sacked) * mss, Lost: int(k.Lost) * mss,
		OutOfSeq: int(k.Rcv_ooopack), Reordered: k.Reord_seen > 0, Reordering: int(k.Reordering),
		Retransmits: int(k.Retransmits), Probes: int(k.Probes), TotalRetrans: int(k.Total_retrans), DSACKs: int(k.Dsack_dups),
		BytesSent: k.Bytes_sent, BytesRetrans: k.Bytes_retrans, BytesAcked: k.Bytes_acked, BytesReceived: k.Bytes_received,
		SegsIn: k.Segs_in, SegsOut: k.Segs_out,
		DeliveryRate: float64(k.Delivery_rate),
		BusyTime:     time.Duration(k.Busy_time) * time.Microsecond, ReceiverLimited: time.Duration(k.Rwnd_limited) * time.Microsecond,
		SendBufferLimited: time.Duration(k.Sndbuf_limited) * time.Microsecond,
	}
	if int(k.State) < len(kernelStates) {
		i.State = kernelStates[k.State]
	}
	if k.Min_rtt != math.MaxUint32 {
		i.MinRTT = us(k.Min_rtt)
	}
	if k.Snd_ssthresh >= math.MaxInt32 { // TCP_INFINITE_SSTHRESH
		i.Ssthresh = math.MaxUint32
	}
	if k.Pacing_rate != math.MaxUint64 {
		i.PacingRate = k.Pacing_rate
	}
	if k.Max_pacing_rate != math.MaxUint64 {
		i.MaxPacingRate = k.Max_pacing_rate
	}
	switch k.Ca_state { // enum tcp_ca_state
	case 0, 1:
		i.Recovery = "open"
	case 2:
		i.Recovery = "cwr"
	case 3:
		i.Recovery = "recovery"
	default:
		i.Recovery = "loss"
	}
	// Two bytes of bit fields, which the Go struct has as padding.
	bits := (*[8]byte)(unsafe.Pointer(k))[6:]
	if k.Options&tcpiWScale != 0 {
		i.SendScale, i.RecvScale = int(bits[0]&15), int(bits[0]>>4)
	}
	i.RateAppLimited = bits[1]&1 != 0
	// What the kernel says was acknowledged may include SYN and FIN.
	first := i.BytesSent - min(i.BytesRetrans, i.BytesSent)
	i.BytesAcked = min(i.BytesAcked, first)
	if k.Unacked > 0 {
		i.InFlight = int(first - i.BytesAcked)
	}
	i.BytesDelivered = i.BytesAcked + uint64(i.SACKed)
	return i
}

// limitOf infers what limits a connection of the kernel's.
func limitOf(k *unix.TCPInfo, i *TCPInfo) TCPLimit {
	pipe := int(k.Unacked) - int(k.Sacked) - int(k.Lost) + int(k.Retrans)
	switch {
	case i.Unsent == 0 && k.Unacked == 0:
		return LimitIdle
	case i.Unsent == 0 && k.Lost <= k.Retrans:
		return LimitApplication
	case i.Unsent > 0 && i.SendWindow-i.InFlight < min(i.Unsent, i.SendMSS):
		return LimitReceiver
	case pipe >= int(k.Snd_cwnd):
		return LimitCwnd
	case i.MaxPacingRate != 0 || i.Congestion == "bbr":
		return LimitPacing
	}
	return LimitApplication
}
