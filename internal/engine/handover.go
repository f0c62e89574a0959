package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/reinject"
	"github.com/onload-go/onload/internal/repair"
	"github.com/onload-go/onload/internal/stack"
)

// Wrap makes of a socket of the kernel's what a client of the engine has instead of one
// of ours, with a descriptor of its own: fd is the caller's.
type Wrap func(fd int) (any, error)

// Moved is a connection that the kernel carries instead of a stack.
type Moved struct {
	Kernel any    // what Wrap made
	Why    string // it was handed over
	// ReadBy and WriteBy are the deadlines that were set on it.
	ReadBy, WriteBy time.Time

	ok   bool
	done chan struct{} // closed when all of it is known
	once sync.Once
}

// Notice waits until the hand-over is over. If the kernel has the connection then, f is
// called for the first caller. Otherwise calls on the stack's connection go on.
func (m *Moved) Notice(f func()) {
	if <-m.done; m.ok {
		m.once.Do(f)
	}
}

// moves has the connections that are being handed over, and those that were and whose
// owners have not noticed.
type moves struct {
	m sync.Map // of *stack.TCPConn, *Moved
}

// of returns the engine of a connection.
func of(c *stack.TCPConn) *Engine {
	e, _ := c.Stack().Owner().(*Engine)
	return e
}

// MovedTCP returns the hand-over of c that is under way or over, nil if there is none.
// Calls on c return ErrClosed meanwhile, and when it is over.
func MovedTCP(c *stack.TCPConn) *Moved {
	if e := of(c); e != nil {
		if m, ok := e.moves.m.Load(c); ok {
			return m.(*Moved)
		}
	}
	return nil
}

// ForgetTCP is called when nobody asks for c any more.
func ForgetTCP(c *stack.TCPConn) {
	if e := of(c); e != nil {
		e.moves.m.Delete(c)
	}
}

// HandOverTCP has the kernel carry c. Its unread and unacknowledged bytes, its options
// and its FINs go with it, and the packets that come meanwhile: the peer notices
// nothing. After an error c goes on as it was, which is ErrClosed if it was closed.
func HandOverTCP(c *stack.TCPConn, why string, wrap Wrap) error {
	e := of(c)
	if e == nil || e.net == nil || !e.rest {
		return fmt.Errorf("there is no kernel: %w", errors.ErrUnsupported)
	}
	if MovedTCP(c) == nil && c.Closed() { // also while its Close waits (SO_LINGER)
		return stack.ErrClosed
	}
	err := e.ns.Do(func() error { return e.handOver(c, why, wrap) })
	if errors.Is(err, os.ErrClosed) {
		err = stack.ErrClosed // the namespace is left: the engine is closed
	}
	return err
}

func (e *Engine) handOver(c *stack.TCPConn, why string, wrap Wrap) error {
	if name := e.kernelless(c.Link()); name != "" {
		return fmt.Errorf("no kernel stands behind %s: %w", name, errors.ErrUnsupported)
	}
	m := &Moved{Why: why, done: make(chan struct{})}
	if other, busy := e.moves.m.LoadOrStore(c, m); busy {
		<-other.(*Moved).done
		return stack.ErrClosed // its users look who has it now
	}
	defer close(m.done)
	if err := e.hand(c, m, wrap); err != nil {
		e.moves.m.Delete(c)
		return err
	}
	m.ok = true
	e.log.Debug("the kernel carries a connection now", zap.Stringer("local", c.LocalAddr()),
		zap.Stringer("remote", c.RemoteAddr()), zap.String("why", why))
	return nil
}

func (e *Engine) hand(c *stack.TCPConn, m *Moved, wrap Wrap) error {
	snapshot, err := c.Freeze()
	if err != nil {
		return err
	}
	if snapshot.Orphan { // it was closed meanwhile: nobody would close the kernel's
		c.Resume()
		return stack.ErrClosed
	}
	fd, err := repair.Restore(snapshot, func(fd int) (err error) {
		m.Kernel, err = wrap(fd)
		return err
	})
	if err != nil {
		m.drop()
		c.Resume()
		return err
	}
	_ = unix.Close(fd) // m.Kernel has another
	packets := c.Release()
	// A deadline that is set from now on is the kernel's: the error says so.
	m.ReadBy, m.WriteBy = c.Deadlines()
	if n, err := reinject.Packets(packets); err != nil {
		// The peer sends them again.
		e.log.Debug("packets that came while a connection was handed over are lost",
			zap.Stringer("connection", c.RemoteAddr()), zap.Int("packets", len(packets)-n), zap.Error(err))
	}
	return nil
}

// drop closes what Wrap made. Its socket is in repair, so the peer does not notice.
func (m *Moved) drop() {
	switch k := m.Kernel.(type) {
	case int:
		_ = unix.Close(k)
	case io.Closer:
		_ = k.Close()
	}
	m.Kernel = nil
}

// kernelless is the name of the interface with that index, if the kernel does not get
// its packets; else "".
func (e *Engine) kernelless(link int) string {
	for _, i := range e.interfaces() {
		if _, gets := i.Device.(driver.Returner); i.Index == link && !gets {
			return i.Name
		}
	}
	return ""
}
