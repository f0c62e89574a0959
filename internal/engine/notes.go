package engine

import (
	"fmt"
	"net/netip"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onload-go/onload/internal/event"
)

// notes has the log say each reason for the kernel once.
type notes struct {
	mu   sync.Mutex
	said map[string]bool
}

// mostNotes bounds the reasons that are remembered. Further ones are not logged: they
// contain something that differs each time.
const mostNotes = 256

// fresh reports whether why is to be logged.
func (n *notes) fresh(why string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.said[why] || len(n.said) >= mostNotes {
		return false
	}
	if n.said == nil {
		n.said = map[string]bool{}
	}
	n.said[why] = true
	return true
}

// notePath logs who carries a socket with that local or remote address. Notice has
// logged it where nothing at all is accelerated.
func (e *Engine) notePath(why string, w *Way, role string, at netip.AddrPort) {
	switch {
	case why != "":
		if e.Accelerates() && e.log.Core().Enabled(zapcore.InfoLevel) && e.notes.fresh(why) {
			e.log.Info("the kernel carries a socket, and others for the same reason", event.PathKernel.Field(),
				zap.String("reason", why), zap.Stringer(role, at))
		}
	case w.Stack != nil && e.log.Core().Enabled(zapcore.DebugLevel):
		e.log.Debug("a socket is accelerated", event.PathChosen.Field(),
			zap.String("interface", w.Stack.Name()), zap.Stringer(role, at))
	}
}

// noteTaken logs the interfaces of the start that are accelerated.
func (e *Engine) noteTaken() {
	for _, i := range e.ifs {
		if i.err() == nil && i.first() != nil {
			e.noteInterface(i)
		}
	}
}

func (e *Engine) noteInterface(i *Interface) {
	p := PathBy(i.first(), i.Index)
	copied := "copy"
	if p.ZeroCopy {
		copied = "zero-copy"
	}
	e.log.Info("interface is taken", event.InterfaceTaken.Field(), zap.String("interface", i.Name),
		zap.String("path", fmt.Sprintf("%s, %s, %s", p.Driver, p.Mode, copied)), zap.Int("queues", len(i.Device.Queues())))
}
