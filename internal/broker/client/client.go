// Package client uses interfaces that a broker shares. It needs no privilege.
package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/event"
)

// Client is a connection to a broker. When the broker ends, the links go on; the client
// connects to the next broker and claims its ports again.
type Client struct {
	path string
	log  *zap.Logger
	ctx  context.Context // of the Client's life
	stop context.CancelFunc
	done chan struct{}

	turn sync.Mutex // one question at a time

	mu      sync.Mutex
	now     *session
	devices map[uint32]*Device // by number of their link
	next    uint32
	welcome *wire.Welcome
	table   int // of Flows; -1: none
}

// session is a connection to one broker.
type session struct {
	conn    *wire.Conn
	seq     uint16
	answers chan answer
	ended   chan struct{} // closed: the connection has ended
}

type answer struct {
	seq uint16
	m   wire.Message
	fds []int
}

const (
	// answerWait is how long a question may take, and how long it waits for a
	// broker that is being restarted.
	answerWait = 10 * time.Second
	// Times between two attempts to connect again.
	redialFirst = 10 * time.Millisecond
	redialMost  = time.Second
)

// Dial connects to the broker at a path.
func Dial(path string, log *zap.Logger) (*Client, error) {
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{path: path, log: log, ctx: ctx, stop: stop, done: make(chan struct{}), devices: map[uint32]*Device{}, table: -1}
	s, err := c.connect()
	if err != nil {
		stop()
		return nil, err
	}
	c.now = s
	go c.run(s)
	return c, nil
}

// Path is the broker's socket.
func (c *Client) Path() string { return c.path }

// Memory is the most packet memory that the broker's policy gives this process, in bytes.
func (c *Client) Memory() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.welcome.Memory)
}

// Shares reports whether this process may use the interface with that index, of a
// network namespace.
func (c *Client) Shares(inNS func(func() error) error, index int) bool {
	var cookie uint64
	err := inNS(func() (err error) { cookie, err = claim.NamespaceCookie(); return err })
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || cookie != c.welcome.Namespace {
		return false
	}
	for _, i := range c.welcome.Interfaces {
		if int(i.Index) == index {
			return true
		}
	}
	return false
}

// Close ends the connection. Links end with their devices.
func (c *Client) Close() error {
	c.stop()
	c.mu.Lock()
	s := c.now
	c.mu.Unlock()
	err := s.conn.Close()
	<-c.done
	if errors.Is(err, os.ErrClosed) {
		return nil // the broker ended it
	}
	return err
}

// connect makes a session and greets the broker.
func (c *Client) connect() (*session, error) {
	conn, err := wire.Dial(c.path)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, answers: make(chan answer, 1), ended: make(chan struct{})}
	name, _ := os.Executable()
	a, err := s.roundTrip(&wire.Hello{Version: wire.Version, Program: wire.MakeText(filepath.Base(name))})
	if err == nil {
		w, ok := a.m.(*wire.Welcome)
		if ok {
			c.mu.Lock()
			c.welcome = w
			c.mu.Unlock()
			return s, nil
		}
		wire.CloseAll(a.fds)
		err = unexpected(a.m)
	}
	_ = conn.Close()
	return nil, err
}

// roundTrip asks while nobody else receives.
func (s *session) roundTrip(m wire.Message, fds ...int) (a answer, err error) {
	if err := s.conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return a, err
	}
	s.seq++
	if err := s.conn.Send(s.seq, m, fds...); err != nil {
		return a, err
	}
	if a.seq, a.m, a.fds, err = s.conn.Receive(); err != nil {
		return a, err
	}
	if a.seq != s.seq {
		wire.CloseAll(a.fds)
		return a, fmt.Errorf("%w: the answer to another question", wire.ErrMalformed)
	}
	return a, s.conn.SetDeadline(time.Time{})
}

// run hands answers on, and connects again when the broker has ended.
func (c *Client) run(s *session) {
	defer close(c.done)
	for {
		c.receive(s)
		close(s.ended)
		_ = s.conn.Close()
		select {
		case a := <-s.answers:
			wire.CloseAll(a.fds)
		default:
		}
		if c.ctx.Err() != nil {
			return
		}
		c.log.Warn("broker has gone: links go on, and wait for the next one", event.BrokerGone.Field(), zap.String("socket", c.path))
		if s = c.redial(); s == nil {
			return
		}
		c.log.Info("broker is back", event.BrokerBack.Field(), zap.String("socket", c.path))
	}
}

func (c *Client) receive(s *session) {
	for {
		seq, m, fds, err := s.conn.Receive()
		if err != nil {
			return
		}
		select {
		case s.answers <- answer{seq, m, fds}:
		default: // nobody has asked
			wire.CloseAll(fds)
			return
		}
	}
}

// redial connects to the next broker, and claims all again. It returns nil after Close.
func (c *Client) redial() *session {
	for wait := redialFirst; ; wait = min(2*wait, redialMost) {
		select {
		case <-c.ctx.Done():
			return nil
		case <-time.After(wait):
		}
		s, err := c.connect()
		if err != nil {
			continue
		}
		c.mu.Lock()
		devices := make([]*Device, 0, len(c.devices))
		for _, d := range c.devices {
			devices = append(devices, d)
		}
		table := c.table
		c.mu.Unlock()
		if table >= 0 {
			if _, err := s.roundTrip(&wire.Flows{}, table); err != nil {
				c.log.Warn("broker does not take the table of connections", event.BrokerNoTable.Field(), zap.Error(err))
			}
		}
		for _, d := range devices {
			if err := d.resume(s); err != nil {
				c.log.Warn("link is not taken up by the broker", event.BrokerRefused.Field(), zap.String("interface", d.Name()), zap.Error(err))
			}
		}
		c.mu.Lock()
		c.now = s
		c.mu.Unlock()
		if c.ctx.Err() != nil { // Close may have seen the session before
			_ = s.conn.Close()
		}
		return s
	}
}

// ask asks the broker, and the next one if it ends meanwhile. An answer that is a refusal
// is a *Refusal.
func (c *Client) ask(m wire.Message, fds ...int) (answer, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	limit := time.NewTimer(answerWait)
	defer limit.Stop()
	for {
		c.mu.Lock()
		s := c.now
		c.mu.Unlock()
		s.seq++
		err := s.conn.Send(s.seq, m, fds...)
		if err == nil {
			select {
			case a := <-s.answers:
				if a.seq != s.seq {
					wire.CloseAll(a.fds)
					_ = s.conn.Close()
					return answer{}, fmt.Errorf("%w: the answer to another question", wire.ErrMalformed)
				}
				return a, refusal(a.m)
			case <-s.ended:
			case <-limit.C:
				_ = s.conn.Close() // a late answer would be taken for the next one's
				return answer{}, fmt.Errorf("broker %s does not answer: %w", c.path, os.ErrDeadlineExceeded)
			}
		} else if errors.Is(err, wire.ErrMalformed) {
			return answer{}, err
		}
		// Wait for the next session.
		select {
		case <-c.ctx.Done():
			return answer{}, os.ErrClosed
		case <-limit.C:
			return answer{}, fmt.Errorf("broker %s is not there: %w", c.path, os.ErrDeadlineExceeded)
		case <-time.After(redialFirst):
		}
	}
}

// A Refusal is the broker's refusal.
type Refusal struct {
	Why   string
	Errno unix.Errno
}

func (r *Refusal) Error() string { return "the broker refuses: " + r.Why }

// Unwrap returns the errno.
func (r *Refusal) Unwrap() error { return r.Errno }

// refusal returns m as an error if it is a refusal.
func refusal(m wire.Message) error {
	if r, ok := m.(*wire.Refusal); ok {
		return &Refusal{r.Why.String(), unix.Errno(r.Errno)}
	}
	return nil
}

func unexpected(m wire.Message) error {
	if err := refusal(m); err != nil {
		return err
	}
	return fmt.Errorf("%w: unexpected %T", wire.ErrMalformed, m)
}

// Flows gives the broker the table of this process's connections, whose peers it tells
// when the process has died. The descriptor stays the caller's, and open until Close.
func (c *Client) Flows(table int) error {
	c.mu.Lock()
	c.table = table
	c.mu.Unlock()
	return c.askOK(&wire.Flows{}, table)
}

// Neighbour has the broker ask the kernel to resolve, or to confirm, a neighbour on an
// interface.
func (c *Client) Neighbour(index int, addr netip.Addr) error {
	return c.askOK(&wire.Neighbour{Index: uint32(index), Addr: wire.MakeAddr(addr.Unmap())})
}

func (c *Client) askOK(m wire.Message, fds ...int) error {
	a, err := c.ask(m, fds...)
	if err != nil {
		return err
	}
	if _, ok := a.m.(*wire.OK); !ok {
		wire.CloseAll(a.fds)
		return unexpected(a.m)
	}
	return nil
}
