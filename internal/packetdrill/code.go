package packetdrill

import (
	"math"
	"strings"

	"github.com/onload-go/onload/tcp"
)

// Values of enum tcp_state and of the other names that the kernel gives the
// fields of struct tcp_info.
var infoNames = map[string]int64{
	"TCP_ESTABLISHED": 1, "TCP_SYN_SENT": 2, "TCP_SYN_RECV": 3, "TCP_FIN_WAIT1": 4, "TCP_FIN_WAIT2": 5,
	"TCP_TIME_WAIT": 6, "TCP_CLOSE": 7, "TCP_CLOSE_WAIT": 8, "TCP_LAST_ACK": 9, "TCP_LISTEN": 10, "TCP_CLOSING": 11,
	// FreeBSD's names of the states, which have the same values here.
	"TCPI_ESTABLISHED": 1, "TCPI_SYN_SENT": 2, "TCPI_SYN_RECEIVED": 3, "TCPI_FIN_WAIT_1": 4, "TCPI_FIN_WAIT_2": 5,
	"TCPI_TIME_WAIT": 6, "TCPI_CLOSED": 7, "TCPI_CLOSE_WAIT": 8, "TCPI_LAST_ACK": 9, "TCPI_LISTEN": 10, "TCPI_CLOSING": 11,
	"TCP_CA_Open": 0, "TCP_CA_Disorder": 1, "TCP_CA_CWR": 2, "TCP_CA_Recovery": 3, "TCP_CA_Loss": 4,
	"TCPI_OPT_TIMESTAMPS": 1, "TCPI_OPT_SACK": 2, "TCPI_OPT_WSCALE": 4, "TCPI_OPT_ECN": 8,
	"TCPI_OPT_ECN_SEEN": 16, "TCPI_OPT_SYN_DATA": 32, "TCPI_OPT_USEC_TS": 64, "TCPI_OPT_TFO_CHILD": 128,
}

var linuxStates = [...]int64{
	tcp.Closed: 7, tcp.SynSent: 2, tcp.SynReceived: 3, tcp.Established: 1, tcp.FinWait1: 4, tcp.FinWait2: 5,
	tcp.CloseWait: 8, tcp.Closing: 11, tcp.LastAck: 9, tcp.TimeWaiting: 6,
}

// infiniteSsthresh is Linux's value of a slow start threshold that nothing has set.
const infiniteSsthresh = 0x7fffffff

// code runs assertions in Python.
func (m *machine) code(text string) error {
	return runPython(text, func(name string) (value, error) {
		if v, ok := m.vars[name]; ok {
			return v, nil
		}
		if n, ok := infoNames[name]; ok {
			return value{n: n}, nil
		}
		if strings.HasPrefix(name, "tcpi_") {
			return m.info(name)
		}
		return value{}, unsupportedf("name %q in Python", name)
	}, func(name string, v value) { m.vars[name] = v })
}

// info is a field of struct tcp_info of the flow under test.
func (m *machine) info(name string) (v value, err error) {
	f := m.flow
	if f == nil {
		return v, failf("no socket to ask for %s", name)
	}
	if f.state == flowNew && name == "tcpi_state" {
		return value{n: infoNames["TCP_CLOSE"]}, nil
	}
	if f.state == flowListening {
		if name == "tcpi_state" {
			return value{n: infoNames["TCP_LISTEN"]}, nil
		}
		return v, unsupportedf("%s of a listener", name)
	}
	c := m.find(f.local, f.remote)
	if c == nil {
		return v, failf("no connection to ask for %s", name)
	}
	i := c.tc.Info(m.now)
	if c.ended {
		i.State = tcp.Closed
		if c.tw != nil {
			i.State = tcp.TimeWaiting
		}
	}
	if name == "tcpi_delivered" {
		return value{n: f.delivered(&i)}, nil
	}
	if name == "tcpi_advmss" {
		return value{n: int64(c.mtu - m.set.headers())}, nil
	}
	if get, ok := infoFields[name]; ok {
		return value{n: get(&i)}, nil
	}
	return v, unsupportedf("%s", name)
}

// segments is how many segments n bytes take.
func segments(n int, i *tcp.Info) int64 { return int64((n + i.SendMSS - 1) / i.SendMSS) }

// delivered is how many segments the peer has, as Linux counts them. The SYN is
// one, together with its data.
func (f *flow) delivered(i *tcp.Info) int64 {
	if i.State == tcp.SynSent || i.State == tcp.SynReceived {
		return 0
	}
	n := int(i.BytesDelivered)
	if i.FastOpened {
		n -= f.synData
	}
	return 1 + segments(n, i)
}

// infoFields maps Linux's names to Info. Where Linux counts segments, full
// ones are taken to hold the bytes.
var infoFields = map[string]func(i *tcp.Info) int64{
	"tcpi_state":          func(i *tcp.Info) int64 { return linuxStates[i.State] },
	"tcpi_ca_state":       caState,
	"tcpi_retransmits":    func(i *tcp.Info) int64 { return int64(i.Retransmits) },
	"tcpi_probes":         func(i *tcp.Info) int64 { return int64(i.Probes + i.KeepProbes) },
	"tcpi_options":        infoOptions,
	"tcpi_snd_wscale":     func(i *tcp.Info) int64 { return int64(max(i.SendScale, 0)) },
	"tcpi_rcv_wscale":     func(i *tcp.Info) int64 { return int64(max(i.RecvScale, 0)) },
	"tcpi_rto":            func(i *tcp.Info) int64 { return i.RTO.Microseconds() },
	"tcpi_rtt":            func(i *tcp.Info) int64 { return i.RTT.Microseconds() },
	"tcpi_rttvar":         func(i *tcp.Info) int64 { return i.RTTVar.Microseconds() },
	"tcpi_min_rtt":        func(i *tcp.Info) int64 { return i.MinRTT.Microseconds() },
	"tcpi_snd_mss":        func(i *tcp.Info) int64 { return int64(i.SendMSS) },
	"tcpi_rcv_mss":        func(i *tcp.Info) int64 { return int64(i.RecvMSS) },
	"tcpi_pmtu":           func(i *tcp.Info) int64 { return int64(i.PathMTU) },
	"tcpi_unacked":        func(i *tcp.Info) int64 { return segments(i.InFlight, i) },
	"tcpi_sacked":         func(i *tcp.Info) int64 { return segments(i.SACKed, i) },
	"tcpi_lost":           func(i *tcp.Info) int64 { return segments(i.Lost, i) },
	"tcpi_retrans":        func(i *tcp.Info) int64 { return segments(i.Resent, i) },
	"tcpi_backoff":        func(i *tcp.Info) int64 { return int64(i.Backoff) },
	"tcpi_last_data_recv": func(i *tcp.Info) int64 { return i.SinceReceived.Milliseconds() },
	"tcpi_reordering":     func(i *tcp.Info) int64 { return int64(i.Reordering) },
	"tcpi_total_retrans":  func(i *tcp.Info) int64 { return int64(i.TotalRetrans) },
	"tcpi_bytes_acked":    func(i *tcp.Info) int64 { return int64(i.BytesAcked) },
	"tcpi_bytes_sent":     func(i *tcp.Info) int64 { return int64(i.BytesSent) },
	"tcpi_bytes_retrans":  func(i *tcp.Info) int64 { return int64(i.BytesRetrans) },
	"tcpi_bytes_received": func(i *tcp.Info) int64 { return int64(i.BytesReceived) },
	"tcpi_notsent_bytes":  func(i *tcp.Info) int64 { return int64(i.Unsent) },
	"tcpi_dsack_dups":     func(i *tcp.Info) int64 { return int64(i.DSACKs) },
	"tcpi_snd_wnd":        func(i *tcp.Info) int64 { return int64(i.SendWindow) },
	"tcpi_rcv_wnd":        func(i *tcp.Info) int64 { return int64(i.RecvWindow) },
	"tcpi_segs_in":        func(i *tcp.Info) int64 { return int64(i.SegsIn) },
	"tcpi_segs_out":       func(i *tcp.Info) int64 { return int64(i.SegsOut) },
	"tcpi_snd_cwnd":       func(i *tcp.Info) int64 { return int64(i.Cwnd / i.SendMSS) },
	"tcpi_snd_ssthresh": func(i *tcp.Info) int64 {
		if i.Ssthresh == math.MaxUint32 {
			return infiniteSsthresh
		}
		return int64(i.Ssthresh / i.SendMSS)
	},
	"tcpi_busy_time":      func(i *tcp.Info) int64 { return i.BusyTime.Microseconds() },
	"tcpi_rwnd_limited":   func(i *tcp.Info) int64 { return i.ReceiverLimited.Microseconds() },
	"tcpi_sndbuf_limited": func(i *tcp.Info) int64 { return i.SendBufferLimited.Microseconds() },
	"tcpi_delivery_rate":  func(i *tcp.Info) int64 { return int64(i.DeliveryRate) },
	"tcpi_pacing_rate":    func(i *tcp.Info) int64 { return int64(i.PacingRate) },
}

func caState(i *tcp.Info) int64 {
	switch i.Recovery {
	case "recovery":
		return infoNames["TCP_CA_Recovery"]
	case "loss":
		return infoNames["TCP_CA_Loss"]
	case "cwr":
		return infoNames["TCP_CA_CWR"]
	}
	if i.SACKed > 0 {
		return infoNames["TCP_CA_Disorder"]
	}
	return 0
}

func infoOptions(i *tcp.Info) (n int64) {
	for name, on := range map[string]bool{
		"TCPI_OPT_TIMESTAMPS": i.Timestamps, "TCPI_OPT_SACK": i.SACK, "TCPI_OPT_WSCALE": i.SendScale >= 0, "TCPI_OPT_ECN": i.ECN,
		"TCPI_OPT_SYN_DATA": i.FastOpened,
	} {
		if on {
			n |= infoNames[name]
		}
	}
	return n
}
