package onload

import (
	"math"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/tcp"
)

// kernelCongestion is the kernel's name of a congestion control.
func kernelCongestion(name string) string {
	if name == "newreno" {
		return "reno"
	}
	return name
}

// kernelStates has our states for the kernel's (include/net/tcp_states.h).
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
	i.Congestion = engine.CongestionName(strings.TrimRight(name, "\x00"))
	i.Limit = limitOf(k, &i)
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		i.SoftError = syscall.Errno(n)
	}
	return i, nil
}

// infoOf returns the kernel's struct in our terms.
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
	// The kernel counts SYN and FIN among the acknowledged bytes.
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
