package onload

// InterfaceStatus is the state of an interface that the engine was told to
// accelerate.
type InterfaceStatus struct {
	Name  string
	Index int // of the link; 0: there is none of that name
	// Err is why it is left to the kernel, or what has broken it since.
	Err error
	// Warnings say why goroutines cannot wait as the profile means it: no
	// processor for each that spins, a cgroup's quota.
	Warnings []string
	// Path and Queues describe an accelerated interface.
	Path      Path
	Queues    int // receive queues taken
	Frames    int // of packet memory
	FrameSize int // bytes of one
	// FramesReason is why there are fewer than the queues want: the machine, a
	// cgroup or RLIMIT_MEMLOCK leaves no more. Empty where there are as many, or
	// as many as Config.Frames asks for.
	FramesReason string
	// Advice is what would suit this process better about the NIC's interrupts,
	// queues and node; empty where nothing is known, or nothing is to be said.
	Advice []string
}

// Status returns what became of each interface that was asked for.
func (e *Engine) Status() []InterfaceStatus {
	var l []InterfaceStatus
	for _, s := range e.in.Status() {
		l = append(l, InterfaceStatus{
			Name: s.Name, Index: s.Index, Err: s.Err, Warnings: s.Warnings,
			Path: Path(s.Path), Queues: s.Queues,
			Frames: s.Frames, FrameSize: s.FrameSize, FramesReason: s.FramesReason,
			Advice: s.Advice,
		})
	}
	return l
}
