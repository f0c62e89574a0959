package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/broker/client"
	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/ring"
)

// broker is the engine's connection to the broker that shares interfaces, if there is one.
type broker struct {
	mu     sync.Mutex
	client *client.Client // nil: there is none
}

// noBroker is the Config.Broker that asks for none.
const noBroker = "off"

// dialBroker returns the connection to the broker, nil if there is none. The error says why
// one that was named, or is there, cannot be reached.
func (e *Engine) dialBroker() (*client.Client, error) {
	b := &e.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil || e.cfg.Broker == noBroker {
		return b.client, nil
	}
	path := cmp.Or(e.cfg.Broker, wire.DefaultSocket)
	c, err := client.Dial(path, e.log)
	if err != nil {
		if e.cfg.Broker == "" && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) {
			return nil, nil // none was asked for, and none is there
		}
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.client = c
	e.mirror.HelpNeighbors(func(link int, addr netip.Addr) error { return c.Neighbour(link, addr) })
	return c, nil
}

// Refused returns why a bound socket's port is not given to this process, so that the
// kernel carries it, or "" if err says nothing of the kind.
func (e *Engine) Refused(err error) (why string) {
	if !errors.Is(err, driver.ErrRefused) {
		return ""
	}
	e.log.Warn("a port is left to the kernel", event.BrokerPort.Field(), zap.Error(err))
	return err.Error()
}

func (b *broker) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == nil {
		return nil
	}
	return b.client.Close()
}

// openShared opens a device of the broker's for a link. It returns nil if there is no broker
// that shares the link with this process, with an error where the reason is worth telling.
func (e *Engine) openShared(l control.Link, arena *ring.Arena, sharers int) (driver.Device, error) {
	c, err := e.dialBroker()
	if err != nil {
		return nil, err
	}
	if c == nil || !c.Shares(e.ns.Do, l.Index) {
		return nil, nil
	}
	frames, err := e.sharedFrames(c, arena, sharers)
	if err != nil {
		return nil, err
	}
	d, err := c.Open(client.Config{
		Index: l.Index, Frames: frames, FrameSize: cmp.Or(e.cfg.FrameSize, sharedFrameSize), Arena: arena, Sharers: sharers,
		Ring:          cmp.Or(e.cfg.RingSize, sharedRing),
		Segments:      e.cfg.Offloads == OffloadsAuto,
		GroupPriority: groupPriority(),
		InNS:          e.ns.Do,
	})
	if err != nil {
		e.log.Warn("broker gives no link", event.BrokerRefused.Field(), zap.String("interface", l.Name), zap.String("socket", c.Path()), zap.Error(err))
		return nil, fmt.Errorf("broker %s: %w", c.Path(), err)
	}
	return d, nil
}

// Sizes of a link where none are set.
const (
	sharedFrameSize = 4096
	sharedRing      = 4096
	sharedFrames    = 16384
)

// sharedFrames is how many frames the arena of a broker's link gets.
func (e *Engine) sharedFrames(c *client.Client, arena *ring.Arena, sharers int) (int, error) {
	if arena != nil {
		return arena.Frames(), nil
	}
	size := int64(cmp.Or(e.cfg.FrameSize, sharedFrameSize))
	most := c.Memory() / size
	if e.cfg.Frames != 0 {
		n := e.cfg.Frames * sharers
		if int64(n) > most {
			return 0, &driver.SettingError{Field: "Frames", Err: fmt.Errorf("%d frames: the broker's policy allows %d", n, most)}
		}
		return n, nil
	}
	if free, _ := freeMemory(&e.cfg, sharers); free > 0 {
		most = min(most, free/4/size)
	}
	return int(min(most, sharedFrames)), nil
}
