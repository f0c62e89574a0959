package engine

import (
	"os"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ring"
)

// process has the engines that answer questions about themselves.
var process struct {
	sync.Mutex
	engines []*Engine
}

func init() {
	inspect.Handle(report.KindStatus, func(r *inspect.Request) error {
		if err := r.Decode(&struct{}{}); err != nil {
			return err
		}
		return r.Send(statusOfProcess())
	})
}

// show lets the program onload ask about e, until hide.
func (e *Engine) show() {
	if e.cfg.Inspect == InspectOff {
		return
	}
	e.shown = true
	process.Lock()
	process.engines = append(process.engines, e)
	process.Unlock()
	if err := inspect.Open(); err != nil {
		e.log.Debug("the program onload cannot ask this process", zap.Error(err))
	}
}

// hide takes e from those that are asked about, and waits for answers where it is the
// last.
func (e *Engine) hide() {
	if !e.shown {
		return
	}
	process.Lock()
	process.engines = slices.DeleteFunc(process.engines, func(o *Engine) bool { return o == e })
	process.Unlock()
	inspect.Close()
}

// shownEngines are those that are asked about.
func shownEngines() []*Engine {
	process.Lock()
	defer process.Unlock()
	return slices.Clone(process.engines)
}

func statusOfProcess() *report.Status {
	s := &report.Status{PID: os.Getpid(), Engines: []report.Engine{}}
	for _, e := range shownEngines() {
		s.Engines = append(s.Engines, e.report())
	}
	return s
}

// report is the engine's state for the program onload.
func (e *Engine) report() report.Engine {
	r := report.Engine{Profile: e.cfg.Profile.String(), NetNS: e.cfg.NetNS, Guardian: e.Guardian(), None: e.none, Interfaces: []report.Interface{}}
	for _, s := range e.Status() {
		i := report.Interface{
			Name: s.Name, Index: s.Index, Path: s.Path.String(), Driver: s.Path.Driver, Mode: s.Path.Mode, ZeroCopy: s.Path.ZeroCopy,
			Queues: s.Queues, Stacks: s.Stacks, Warnings: s.Warnings, Advice: s.Advice,
		}
		if s.Err != nil {
			i.Error = s.Err.Error()
		}
		r.Interfaces = append(r.Interfaces, i)
	}
	r.Sockets.Listeners = len(e.Listeners())
	var counted []*stack.Stack
	arenas := map[*ring.Arena]bool{}
	for _, i := range e.interfaces() {
		if i.first() == nil || slices.Contains(counted, i.first()) {
			continue
		}
		counted = append(counted, i.first())
		st := stack.TeamCounts(i.Stacks)
		n := &r.Sockets
		n.TCP, n.TimeWaits = n.TCP+st.Conns, n.TimeWaits+st.TimeWaits
		n.UDP, n.Orphans = n.UDP+st.UDPs, n.Orphans+st.Orphans
		if a := i.Device.Arena(); !arenas[a] {
			arenas[a] = true
			m := &r.Memory
			if m.FrameSize == 0 {
				m.FrameSize = a.FrameSize()
			}
			m.Bytes, m.Frames, m.FreeFrames = m.Bytes+a.Frames()*a.FrameSize(), m.Frames+st.Frames, m.FreeFrames+st.FreeFrames
		}
	}
	return r
}
