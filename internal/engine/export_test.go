package engine

// KernelOption is an option that only the kernel can follow.
type KernelOption struct {
	Level, Opt int
	Name       string
}

// KernelOptions lists those that have the kernel carry a connection whenever
// they are set.
func KernelOptions() (l []KernelOption) {
	for _, x := range sockopts {
		if x.follow == nil {
			l = append(l, KernelOption{x.level, x.opt, x.name})
		}
	}
	return l
}

// HasInlet reports whether the engine takes packets from the kernel.
func (e *Engine) HasInlet() bool { return e.inlet != nil }
