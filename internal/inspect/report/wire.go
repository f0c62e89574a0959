package report

// Queues are those of a process's interfaces.
type Queues struct {
	Queues []Queue `json:"queues"`
}

// Queue is one of an interface.
type Queue struct {
	Interface   string            `json:"interface"`
	Queue       int               `json:"queue"`
	Driver      string            `json:"driver"`
	Mode        string            `json:"mode"`
	ZeroCopy    bool              `json:"zero_copy"`
	CopyReason  string            `json:"copy_reason,omitempty"`
	NAPI        string            `json:"napi,omitempty"`
	FrameSize   int               `json:"frame_size"`   // bytes
	MultiBuffer bool              `json:"multi_buffer"` // a packet may take several frames
	MTU         int               `json:"mtu"`
	TSO         int               `json:"tso"` // largest packet that the device segments; 0: none
	RxRing      int               `json:"rx_ring"`
	RxFree      int               `json:"rx_free"` // entries that have a frame to receive into
	TxRing      int               `json:"tx_ring"`
	TxUsed      int               `json:"tx_used"` // entries with packets that are not sent, or not given back
	Turns       uint64            `json:"turns"`   // poll turns of the queue's stack that found something
	Error       string            `json:"error,omitempty"`
	Counters    map[string]uint64 `json:"counters"` // driver.Stats
}

// SteerArgs bounds an answer.
type SteerArgs struct {
	Most int `json:"most"` // entries of an interface
}

// Steering is what an interface gives to the process.
type Steering struct {
	Interface string    `json:"interface"`
	Note      string    `json:"note,omitempty"` // why there is no list
	Entries   []Entry   `json:"entries"`
	Cut       bool      `json:"cut"` // there are more
	Decisions []Decided `json:"decisions"`
}

// Entry is one of the steering's tables. Single entries are not counted: that would cost
// each packet.
type Entry struct {
	Proto string `json:"proto"`
	Local End    `json:"local"`
	Peer  End    `json:"peer"` // of a flow
	Owner string `json:"owner"`
}

// Decided counts packets of an interface by what was done with them.
type Decided struct {
	Name    string `json:"name"`
	Help    string `json:"help"`
	Packets uint64 `json:"packets"`
}

// SomeRoutes are destinations, some of them.
type SomeRoutes struct {
	Routes []Route `json:"routes"`
}

// Route is a destination in use, as the stack believes it to be.
type Route struct {
	Proto     string `json:"proto"`
	Local     string `json:"local"`
	Remote    string `json:"remote"`
	TOS       int    `json:"tos,omitempty"`
	Interface string `json:"interface"`
	Index     int    `json:"index"`  // of the interface; 0: none
	Kernel    bool   `json:"kernel"` // packets leave through the kernel, by an interface that is not accelerated
	NextHop   string `json:"next_hop"`
	MAC       string `json:"mac,omitempty"`
	MTU       int    `json:"mtu"`
	PathMTU   int    `json:"path_mtu,omitempty"` // of UDP, as a router says
	Users     int    `json:"users"`              // sockets
	Waiting   int    `json:"waiting"`            // packets that wait for the neighbour's address
	Error     string `json:"error,omitempty"`    // why there is no route at present
	Own       bool   `json:"own"`                // no kernel stands behind the interface: it has no answer
}
