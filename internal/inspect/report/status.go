// Package report has what a process answers to the program onload (package
// internal/inspect), a struct for each kind of question.
package report

// Kinds of questions, each with its answer.
const (
	KindStatus   = "status"   // one Status
	KindSockets  = "sockets"  // any number of SomeSockets, to SocketsArgs
	KindWhy      = "why"      // one Why, to WhyArgs
	KindQueues   = "queues"   // one Queues
	KindSteering = "steering" // one Steering for each interface, to SteerArgs
	KindRoutes   = "routes"   // any number of SomeRoutes
	KindCounters = "counters" // one {"teams":[...]}, onload.TeamStats each
)

// Status is the state of a process's engines.
type Status struct {
	PID     int      `json:"pid"` // as the process itself counts
	Engines []Engine `json:"engines"`
}

// Engine is a set of accelerated interfaces.
type Engine struct {
	Profile    string      `json:"profile"`
	NetNS      string      `json:"netns,omitempty"` // Config.NetNS
	Guardian   string      `json:"guardian"`
	None       string      `json:"none,omitempty"` // why nothing is accelerated
	Interfaces []Interface `json:"interfaces"`
	Sockets    Sockets     `json:"sockets"`
	Memory     Memory      `json:"memory"`
}

// Interface is one that the engine was told to accelerate.
type Interface struct {
	Name     string   `json:"name"`
	Index    int      `json:"index"`
	Error    string   `json:"error,omitempty"` // why it carries nothing
	Path     string   `json:"path"`            // as onload.Path in words
	Driver   string   `json:"driver,omitempty"`
	Mode     string   `json:"mode,omitempty"` // "native", "generic", "sim" ...
	ZeroCopy bool     `json:"zero_copy"`
	Queues   int      `json:"queues"`
	Stacks   int      `json:"stacks"`
	Warnings []string `json:"warnings,omitempty"`
	Advice   []string `json:"advice,omitempty"`
}

// Sockets counts those that stacks carry.
type Sockets struct {
	TCP       int `json:"tcp"` // connections, TIME-WAIT not among them
	TimeWaits int `json:"time_waits"`
	Listeners int `json:"listeners"`
	UDP       int `json:"udp"`
	Orphans   int `json:"orphans"` // connections that go on though the program has closed them
}

// Memory is that of packets. Interfaces may share it.
type Memory struct {
	Bytes      int `json:"bytes"`
	Frames     int `json:"frames"`
	FreeFrames int `json:"free_frames"`
	FrameSize  int `json:"frame_size"` // bytes; of the first interface
}
