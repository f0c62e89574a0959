package report

// KindCapture asks for all packets from now on until the peer closes the connection or
// sends a byte. Its args are a Capture; one CaptureReady answers, with a descriptor: the
// memory in which the packets are recorded (package internal/record).
const KindCapture = "capture"

// Capture says which packets are wanted.
type Capture struct {
	SnapLen   int         `json:"snaplen,omitempty"`   // bytes of each packet; 0: all
	Buffer    int         `json:"buffer,omitempty"`    // bytes of packets that wait to be read, of each stack; 0: 4 MiB
	Interface string      `json:"interface,omitempty"` // by its name; empty: all
	Direction string      `json:"direction,omitempty"` // "in", "out"; empty: both
	NoMatch   bool        `json:"no_match,omitempty"`  // only received packets that belong to no socket
	Filter    [][4]uint32 `json:"filter,omitempty"`    // instructions of classic BPF: code, jt, jf, k
}

// CaptureReady says how the memory is divided: into rings of Size bytes, each from a
// multiple of Stride on. Rings that no stack uses yet are zero.
type CaptureReady struct {
	Rings  int `json:"rings"`
	Size   int `json:"size"`
	Stride int `json:"stride"`
}
