package engine

import (
	"errors"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/internal/guardian"
)

// guard is the process that tells the engine's peers when this one has died, and what it
// reads. It starts with the first stack over a link of the kernel's.
type guard struct {
	mu    sync.Mutex
	table *flowtable.Table
	g     *guardian.Guardian
	by    string // the broker that does it instead
	none  string // why there is none
}

// flows returns the table of connections; nil: nobody reads it.
func (g *guard) flows(e *Engine) *flowtable.Table {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table != nil || g.none != "" {
		return g.table
	}
	if err := g.start(e); err != nil {
		g.none = err.Error()
		e.log.Info("no guardian: peers of this process would not be told if it were killed", event.NoGuardian.Field(), zap.Error(err))
	}
	return g.table
}

func (g *guard) start(e *Engine) error {
	if e.reserver == nil {
		return errors.New("no kernel knows the interfaces")
	}
	if e.cfg.Guardian == guardian.Off {
		return errors.New("it is off")
	}
	table, err := flowtable.New()
	if err != nil {
		return err
	}
	g.g, err = guardian.Start(guardian.Options{Program: e.cfg.Guardian, Table: table, In: e.InNS, Log: e.log})
	if err != nil && g.broker(e, table) == nil {
		err = nil
	}
	if err != nil {
		return errors.Join(err, table.Close())
	}
	g.table = table
	return nil
}

// broker has the broker tell the peers, as far as their ports are proven to it.
func (g *guard) broker(e *Engine, table *flowtable.Table) error {
	e.broker.mu.Lock()
	c := e.broker.client
	e.broker.mu.Unlock()
	if c == nil {
		return errors.New("there is no broker")
	}
	err := c.Flows(table.FD())
	if err != nil {
		e.log.Warn("broker does not take the table of connections", event.BrokerNoTable.Field(), zap.Error(err))
		return err
	}
	g.by = "broker " + c.Path()
	return nil
}

// close ends the guardian, when no stack uses the table any more.
func (g *guard) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table == nil {
		return nil
	}
	if g.g != nil {
		g.g.Close()
	}
	return g.table.Close()
}

// Guardian says which process tells the peers if this one dies, or why none does.
func (e *Engine) Guardian() string {
	g := &e.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.by != "":
		return g.by
	case g.table != nil:
		return g.g.String()
	case g.none != "":
		return "none: " + g.none
	}
	return "none: nothing is accelerated"
}

// setGuardian takes the setting of the environment. elevated: whoever has set it has not
// the rights of this process.
func setGuardian(c *Config, v string, elevated bool) error {
	if elevated && filepath.IsAbs(v) {
		return errors.New("the environment names no program for a process with capabilities or a set-user-ID bit of its file: put onload beside it, or set Config.Guardian")
	}
	c.Guardian = v
	return nil
}

func checkGuardian(c *Config) error {
	switch p := c.Guardian; {
	case p == "", p == guardian.Auto, p == guardian.Off, p == guardian.Self, filepath.IsAbs(p):
		return nil
	}
	return errors.New("want auto, self, off, or an absolute path")
}
