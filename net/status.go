package onload

import "github.com/onload-go/onload/internal/engine"

// InterfaceStatus is the state of an interface that the engine was told to
// accelerate.
type InterfaceStatus struct {
	Name  string
	Index int // of the link; 0: there is none of that name
	// Err is why the interface is left to the kernel, or what has broken it since.
	Err error
	// Warnings say why goroutines cannot wait as the profile means it: there is no
	// processor for each that spins, or a cgroup has a quota.
	Warnings []string
	// Path and Queues describe an accelerated interface.
	Path      Path
	Queues    int // receive queues taken
	Stacks    int // that share them (Config.Stacks)
	Frames    int // of packet memory
	FrameSize int // bytes of one
	// FramesReason says why there are fewer frames than the queues want: the
	// machine, a cgroup or RLIMIT_MEMLOCK leaves no more. It is empty if there are
	// as many, or as many as Config.Frames asks for.
	FramesReason string
	// Advice says how the NIC's interrupts, queues and node would suit this process
	// better. It is empty if nothing is known, or nothing is wrong.
	Advice []string
}

// Status returns the state of each interface that was asked for.
func (e *Engine) Status() []InterfaceStatus {
	var l []InterfaceStatus
	for _, s := range e.in.Status() {
		l = append(l, interfaceStatus(s))
	}
	return l
}

func interfaceStatus(s engine.Status) InterfaceStatus {
	return InterfaceStatus{
		Name: s.Name, Index: s.Index, Err: s.Err, Warnings: s.Warnings,
		Path: Path(s.Path), Queues: s.Queues, Stacks: s.Stacks,
		Frames: s.Frames, FrameSize: s.FrameSize, FramesReason: s.FramesReason,
		Advice: s.Advice,
	}
}
