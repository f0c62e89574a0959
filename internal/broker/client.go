package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/broker/wire"
)

// client is a connection, and what its process has got by it. One goroutine serves it; but for
// leave, its methods are that goroutine's.
type client struct {
	b       *Broker
	conn    *wire.Conn
	log     *zap.Logger
	pid     int32
	user    policy.User
	process *os.File // a pidfd
	links   map[uint32]*link
	ports   map[port]*held
	past    []*nicshare.Link // that have ended, while the process may have their sockets
	table   int              // of its connections; -1: it has not brought one
	account *account

	resuming int // links that are between Resume and Resumed

	mu   sync.Mutex
	keep bool // its links are for the next broker

	counted bool // among the user's processes; Broker.mu
}

// Bounds that no policy changes.
const (
	helloWait  = 10 * time.Second // for the first message
	answerWait = 5 * time.Second  // for a client to take an answer
	maxConns   = 256              // of a user at a time
	redoFirst  = 10 * time.Millisecond
)

// take serves a connection.
func (b *Broker) take(conn *wire.Conn) {
	c := &client{b: b, conn: conn, links: map[uint32]*link{}, ports: map[port]*held{}, table: -1}
	if err := c.identify(); err != nil {
		b.log.Warn("broker: client", zap.Error(err))
		_ = conn.Close()
		return
	}
	c.log = b.log.With(zap.Int32("pid", c.pid), zap.Uint32("uid", c.user.UID))
	b.mu.Lock()
	defer b.mu.Unlock()
	same := 0
	for o := range b.clients {
		if o.user.UID == c.user.UID {
			same++
			c.account = o.account
		}
	}
	if c.account == nil {
		c.account = new(account)
	}
	if b.ended || same >= maxConns || len(b.clients) >= b.maxClients {
		_ = conn.Close()
		_ = c.process.Close()
		return
	}
	b.clients[c] = true
	b.served.Go(c.serve)
	b.served.Go(c.watch)
}

// identify asks the kernel who is at the other end.
func (c *client) identify() error {
	return c.conn.Do(func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return os.NewSyscallError("getsockopt SO_PEERCRED", err)
		}
		c.pid, c.user.UID = cred.Pid, cred.Uid
		groups, err := peerGroups(fd)
		if err != nil {
			return os.NewSyscallError("getsockopt SO_PEERGROUPS", err)
		}
		c.user.Groups = append(groups, cred.Gid)
		// A number may be another process's by now. SO_PEERPIDFD (Linux 6.5) never is.
		pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if errors.Is(err, unix.ENOPROTOOPT) {
			pidfd, err = unix.PidfdOpen(int(cred.Pid), 0)
		}
		if err == nil {
			err = unix.SetNonblock(pidfd, true)
		}
		if err != nil {
			return fmt.Errorf("pidfd of %d: %w", cred.Pid, err)
		}
		c.process = os.NewFile(uintptr(pidfd), "pidfd")
		return nil
	})
}

// watch ends the connection when the process ends. A child may have the socket still.
func (c *client) watch() {
	raw, err := c.process.SyscallConn()
	if err != nil {
		return
	}
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if err == nil {
		_ = c.conn.Close()
	}
}

// leave ends the connection. The links stay for the next broker, if keep says so.
func (c *client) leave(keep bool) {
	c.mu.Lock()
	c.keep = keep
	c.mu.Unlock()
	_ = c.conn.Close()
}

// serve answers questions until the connection ends, and takes all back then.
func (c *client) serve() {
	err := c.greet()
	for err == nil {
		var seq uint16
		var m wire.Message
		var fds []int
		if seq, m, fds, err = c.conn.Receive(); err == nil {
			err = c.answer(seq, m, fds)
		}
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed):
		c.log.Debug("broker: client has left")
	default:
		c.log.Warn("broker: client is dropped", zap.Error(err))
	}
	c.end()
}

// end gives back all that the client has.
func (c *client) end() {
	_ = c.conn.Close()
	_ = c.process.Close()
	c.mu.Lock()
	keep := c.keep
	c.mu.Unlock()
	for _, l := range c.links {
		if keep {
			continue
		}
		if err := c.endLink(l); err != nil {
			c.log.Warn("broker: link", zap.String("interface", l.nic.name), zap.Error(err))
		}
	}
	most := c.mournedMost()
	clear(c.links)
	for _, h := range c.ports {
		_ = c.letGo(h) // nothing is steered there any more
	}
	free := make(chan struct{})
	c.b.served.Go(func() {
		defer close(free)
		c.awaitFree()
	})
	if c.table >= 0 && !keep {
		c.mourn(most)
	}
	c.setTable(-1)
	<-free
	c.b.forget(c)
}

// awaitFree waits until nothing is left of what the client had, or the broker ends. Until then
// it counts, so that a user who comes and goes has no more than one who stays. That goes for
// what ends in its own time, too: memory whose sockets some process has, and descriptors that
// take long to close. While its peers are told, the user may start the process again.
func (c *client) awaitFree() {
	select {
	case <-c.conn.Discarded():
	case <-c.b.stop:
		return
	}
	for wait := redoFirst; c.memory() > 0; wait = min(2*wait, sweepEvery) {
		select {
		case <-c.b.stop:
			return
		case <-time.After(wait):
		}
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.counted = false
}

// endLink ends a link of the client's, whose memory counts as long as its sockets are open.
func (c *client) endLink(l *link) error {
	c.account.turn.Lock()
	defer c.account.turn.Unlock()
	err := l.link.Close()
	c.past = append(c.past, l.link)
	l.nic.links.put(c.account, 1)
	c.b.flows.put(c.account, len(l.flows))
	clear(l.flows)
	return err
}

// memory returns how much packet memory the client has, in bytes.
func (c *client) memory() (n int64) {
	c.past = slices.DeleteFunc(c.past, func(l *nicshare.Link) bool { return !l.Held() })
	for _, l := range c.past {
		n += l.Memory()
	}
	for _, l := range c.links {
		n += l.link.Memory()
	}
	return n
}

func (b *Broker) forget(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
}

// greet answers Hello.
func (c *client) greet() error {
	if err := c.conn.SetDeadline(time.Now().Add(helloWait)); err != nil {
		return err
	}
	seq, m, fds, err := c.conn.Receive()
	if err != nil {
		return err
	}
	if err := c.conn.Discard(fds); err != nil {
		return err
	}
	h, ok := m.(*wire.Hello)
	if !ok {
		return errors.New("the first message is no hello")
	}
	if h.Version != wire.Version {
		return errors.Join(c.refuse(seq, unix.EPROTO, "the broker speaks version %d of the protocol, the client %d", wire.Version, h.Version),
			fmt.Errorf("version %d", h.Version))
	}
	c.log = c.log.With(zap.String("program", h.Program.String()))
	w := &wire.Welcome{WelcomeHead: wire.WelcomeHead{Namespace: c.b.cookie}}
	p := c.b.currentPolicy()
	for _, n := range c.b.nics {
		l, ok := p.Limits(c.user, n.name)
		if !ok || len(w.Interfaces) == wire.MaxInterfaces {
			continue
		}
		w.Interfaces = append(w.Interfaces, wire.Interface{Index: n.index, Name: wire.MakeText(n.name)})
		w.Memory, w.Ports = max(w.Memory, uint64(l.Memory)), max(w.Ports, uint32(l.Ports))
	}
	c.log.Info("broker: client", zap.Int("interfaces", len(w.Interfaces)))
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return c.send(seq, w)
}

// send answers. A client that takes no answers is dropped.
func (c *client) send(seq uint16, m wire.Message, fds ...int) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(answerWait)); err != nil {
		return err
	}
	return c.conn.Send(seq, m, fds...)
}

func (c *client) refuse(seq uint16, errno unix.Errno, format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	c.log.Info("broker: refused", zap.String("why", why))
	return c.send(seq, &wire.Refusal{Errno: uint32(errno), Why: wire.MakeText(why)})
}

// refuseFor refuses because of err.
func (c *client) refuseFor(seq uint16, err error) error {
	errno := unix.EIO
	if e := unix.Errno(0); errors.As(err, &e) && e != 0 {
		errno = e
	}
	return c.refuse(seq, errno, "%v", err)
}
