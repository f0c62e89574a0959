package engine

import "github.com/onload-go/onload/internal/stack"

// Status is the state of an interface. Package onload has the same struct, and
// describes each field there.
type Status struct {
	Name      string
	Index     int
	Err       error
	Warnings  []string
	Path      Path
	Queues    int
	Stacks    int
	Frames    int
	FrameSize int

	FramesReason string
	Advice       []string
}

// Status returns the state of each interface that was asked for.
func (e *Engine) Status() []Status { return e.status(true) }

// States is Status without Warnings and Advice, which cost system calls.
func (e *Engine) States() []Status { return e.status(false) }

func (e *Engine) status(advice bool) []Status {
	var l []Status
	for _, i := range e.interfaces() {
		st := Status{Name: i.Name, Index: i.Index, Err: i.err()}
		if s := i.first(); s != nil {
			st.Path = PathBy(s, i.Index)
			st.Queues, st.Stacks = len(i.Device.Queues()), len(i.Stacks)
			if advice {
				st.Warnings = s.Warnings()
				if why := i.missing(); why != "" {
					st.Warnings = append(st.Warnings, why)
				}
				st.Advice = e.advice(i)
			}
			st.Frames, st.FrameSize = i.Device.Arena().Frames(), i.Device.Arena().FrameSize()
			st.FramesReason = i.Device.Caps().FramesReason
		}
		if st.Err != nil {
			st.Path = Path{Reason: st.Err.Error()}
		}
		l = append(l, st)
	}
	return l
}

// advice is the device's advice, if it has any.
func (e *Engine) advice(i *Interface) []string {
	d, ok := i.Device.(interface{ Advice(spins bool) []string })
	if !ok {
		return nil
	}
	return d.Advice(e.cfg.Profile != Throughput && e.cfg.Spin >= 0)
}

// Stats returns the counters of every accelerated interface, by name. All but
// Queues are the sum over the stacks of its team: interfaces that share one have the
// same.
func (e *Engine) Stats() map[string]stack.Stats {
	m := map[string]stack.Stats{}
	for _, i := range e.interfaces() {
		if len(i.Stacks) > 0 {
			m[i.Name] = stack.TeamStats(i.Stacks, i.Index)
		}
	}
	return m
}
