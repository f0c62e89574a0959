package report

import "time"

// SocketsArgs says which sockets are wanted. Flags that are all false want none.
type SocketsArgs struct {
	TCP     bool `json:"tcp,omitempty"`     // connections
	Waiting bool `json:"waiting,omitempty"` // those in TIME-WAIT
	Listen  bool `json:"listen,omitempty"`
	UDP     bool `json:"udp,omitempty"`
	Info    bool `json:"info,omitempty"`   // Socket.Info too
	Memory  bool `json:"memory,omitempty"` // Socket.Memory of connections too
}

// SomeSockets are sockets of a process, some of them: an answer has several.
type SomeSockets struct {
	Sockets []Socket `json:"sockets"`
}

// Socket is one that a stack carries or, as the program onload finds out, the kernel.
// States are ss's: ESTAB, LISTEN, UNCONN and so on.
type Socket struct {
	Proto     string   `json:"proto"` // "tcp" or "udp"
	State     string   `json:"state"`
	RecvQ     int      `json:"recv_q"` // as ss has it: bytes unread; of a listener connections that wait for Accept
	SendQ     int      `json:"send_q"` // bytes not acknowledged; of a listener the most that may wait
	Local     End      `json:"local"`
	Peer      End      `json:"peer"`
	Carrier   string   `json:"carrier"` // "stack" or "kernel"
	Interface string   `json:"interface,omitempty"`
	Reason    string   `json:"reason,omitempty"` // why packets go through the kernel
	Stack     int      `json:"stack,omitempty"`  // of those over the interface, from 0
	Orphan    bool     `json:"orphan,omitempty"` // the program has closed it
	Half      int      `json:"half_open,omitempty"`
	Timer     *Timer   `json:"timer,omitempty"`
	Memory    *Buffers `json:"memory,omitempty"`
	Info      *TCPInfo `json:"info,omitempty"`
}

// End is one end of a socket.
type End struct {
	Address string `json:"address"` // "*": any, of both families
	Port    uint16 `json:"port"`    // 0: any
}

// Timer is what a connection waits for.
type Timer struct {
	Name  string        `json:"name"` // ss's: on, keepalive, timewait, persist
	Left  time.Duration `json:"left_ns"`
	Tries int           `json:"tries"` // without an answer so far
}

// Buffers are bytes.
type Buffers struct {
	Unread  int    `json:"unread"`
	Receive int    `json:"receive"` // size of the buffer
	Unsent  int    `json:"unsent"`
	Send    int    `json:"send"`
	Drops   uint64 `json:"drops"` // datagrams that found no room or no memory
}

// TCPInfo is onload.TCPInfo, in its units: bytes, and bytes per second.
type TCPInfo struct {
	Congestion string `json:"congestion"`

	SendMSS    int  `json:"send_mss"`
	RecvMSS    int  `json:"recv_mss"`
	PathMTU    int  `json:"path_mtu"`
	SACK       bool `json:"sack,omitempty"`
	Timestamps bool `json:"timestamps,omitempty"`
	ECN        bool `json:"ecn,omitempty"`
	FastOpened bool `json:"fast_opened,omitempty"`
	SendScale  int  `json:"send_scale"` // -1: not negotiated
	RecvScale  int  `json:"recv_scale"`

	RTO    time.Duration `json:"rto_ns"`
	RTT    time.Duration `json:"rtt_ns"`
	RTTVar time.Duration `json:"rtt_var_ns"`
	MinRTT time.Duration `json:"min_rtt_ns"`

	Cwnd       int `json:"cwnd"`
	Ssthresh   int `json:"ssthresh"` // 4294967295 before the first reduction
	SendWindow int `json:"send_window"`
	RecvWindow int `json:"recv_window"`

	Unsent     int    `json:"unsent,omitempty"`
	InFlight   int    `json:"in_flight,omitempty"`
	SACKed     int    `json:"sacked,omitempty"`
	Lost       int    `json:"lost,omitempty"`
	Resent     int    `json:"resent,omitempty"`
	OutOfSeq   int    `json:"out_of_seq,omitempty"`
	Recovery   string `json:"recovery"`
	Reordered  bool   `json:"reordered,omitempty"`
	Reordering int    `json:"reordering"`

	Retransmits  int `json:"retransmits,omitempty"`
	Backoff      int `json:"backoff,omitempty"`
	TotalRetrans int `json:"total_retrans,omitempty"`
	DSACKs       int `json:"dsacks,omitempty"`

	BytesSent     uint64 `json:"bytes_sent"`
	BytesRetrans  uint64 `json:"bytes_retrans,omitempty"`
	BytesAcked    uint64 `json:"bytes_acked"`
	BytesReceived uint64 `json:"bytes_received"`
	SegsIn        uint32 `json:"segs_in"`
	SegsOut       uint32 `json:"segs_out"`

	SinceReceived time.Duration `json:"since_received_ns"`
	SoftError     string        `json:"soft_error,omitempty"`

	PacingRate     uint64  `json:"pacing_rate,omitempty"`
	MaxPacingRate  uint64  `json:"max_pacing_rate,omitempty"`
	DeliveryRate   float64 `json:"delivery_rate,omitempty"` // where the program has asked for it (TCPConn.Info)
	RateAppLimited bool    `json:"rate_app_limited,omitempty"`

	Limit             string        `json:"limit"` // why it sends no more now
	BusyTime          time.Duration `json:"busy_ns,omitempty"`
	ReceiverLimited   time.Duration `json:"receiver_limited_ns,omitempty"`
	SendBufferLimited time.Duration `json:"send_buffer_limited_ns,omitempty"`
	CwndLimited       time.Duration `json:"cwnd_limited_ns,omitempty"`
	PacingLimited     time.Duration `json:"pacing_limited_ns,omitempty"`
}

// WhyArgs asks why the kernel carries flows.
type WhyArgs struct {
	Flows []Flow `json:"flows"`
}

// Flow is a socket by its ends; Peer is the zero End of one that is bound only.
type Flow struct {
	Proto string `json:"proto"`
	Local End    `json:"local"`
	Peer  End    `json:"peer"`
}

// Why has a reason for each flow that was asked about, in their order.
type Why struct {
	Reasons []string `json:"reasons"`
}
