package stack

import (
	"io"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// TCPConn is a TCP connection of a Stack. All methods may be called at the
// same time from several goroutines. Errors are bare (syscall.Errno, io.EOF,
// net.ErrClosed, os.ErrDeadlineExceeded).
type TCPConn struct {
	s  *Stack
	tc tcp.Conn

	// Under the stack lock.
	dst     *dst
	port    *port
	timer   ring.Timer
	qi      uint8 // queue that its packets arrive on
	dirty   bool  // on Stack.dirty
	gathers bool  // on Stack.gathering
	blocked bool  // on Stack.blocked
	gone    bool  // out of the demultiplexer
	dying   bool  // on Stack.dead
	tw      bool  // leaves a TIME-WAIT entry behind
	orphan  bool  // the user has closed it

	work ring.Work
	todo atomic.Uint32 // what was left for the holder of the lock

	rmu, wmu sync.Mutex // one reader, one writer
	r, w     waiter
	state    atomic.Uint32 // connected, closed, ...
}

// Bits of TCPConn.todo.
const (
	todoOutput uint32 = 1 << iota
	todoWindow
	todoCloseWrite
	todoClose
	todoConnect
)

// Bits of TCPConn.state.
const (
	stConnecting uint32 = 1 << iota
	stClosed            // by the user
	stReadClosed
	stWriteClosed
	stDone // the protocol is finished
)

// newTCPConn returns the connection of two ports of d, which counts it.
func (s *Stack) newTCPConn(d *dst, localPort, remotePort uint16) *TCPConn {
	c := &TCPConn{s: s, dst: d}
	c.tc.Name(&d.key.Pair, localPort, remotePort)
	c.work.Kind, c.timer.Kind = ofTCPConn, ofTCPConn
	return c
}

// Transmit implements tcp.Owner. It is send, without the call.
func (c *TCPConn) Transmit(pkt []ring.Desc, ecn uint8) bool {
	s, d := c.s, c.dst
	if !d.ready {
		return s.sendLater(d, int(c.qi), pkt, ecn)
	}
	tx := int(d.on.tx[c.qi])
	hl := s.address(d, tx, pkt, ecn)
	return hl > 0 && s.post(tx, pkt, hl)
}

// Notify implements tcp.Owner. It only notes: the protocol is in the middle
// of something.
func (c *TCPConn) Notify(ev tcp.Event) {
	s := c.s
	if ev&(tcp.EvClosed|tcp.EvTimeWait) != 0 && !c.dying {
		c.dying = true
		c.tw = ev&tcp.EvTimeWait != 0
		s.turn.dead = append(s.turn.dead, c)
	}
	if ev&(tcp.EvReadable|tcp.EvError|tcp.EvHup|tcp.EvConnected|tcp.EvClosed) != 0 {
		s.notify(&c.r)
	}
	if ev&(tcp.EvWritable|tcp.EvError|tcp.EvConnected|tcp.EvClosed|tcp.EvTimeWait) != 0 {
		s.notify(&c.w)
	}
}

// ready implements socket.
func (c *TCPConn) ready(d direction) bool {
	st := c.state.Load()
	if st&stClosed != 0 || c.s.life.closing.Load() {
		return true
	}
	if d == dirRead {
		return c.tc.Readable() || st&stReadClosed != 0
	}
	return c.tc.Writable() || st&stWriteClosed != 0
}

// connecting waits for the outcome of a Dial.
type connecting struct{ c *TCPConn }

func (k connecting) ready(direction) bool {
	if k.c.state.Load()&stClosed != 0 || k.c.s.life.closing.Load() || k.c.tc.Err() != nil {
		return true
	}
	st := k.c.tc.State()
	return st != tcp.SynSent && st != tcp.SynReceived
}

// lingering waits until everything sent is acknowledged (SO_LINGER), our FIN
// included. Nobody waits for the peer's FIN.
type lingering struct{ c *TCPConn }

func (k lingering) ready(direction) bool {
	return k.c.state.Load()&stDone != 0 || k.c.tc.State() == tcp.FinWait2 || k.c.s.life.closing.Load()
}

// do has the protocol do what flag says: now, if the lock is free, else by its
// holder.
func (c *TCPConn) do(flag uint32) {
	if d, locked := c.begin(flag); locked {
		c.s.endDeferring(d)
	}
}

// begin is do without its end. If locked is true, the lock is held, and
// endDeferring(d) must follow.
func (c *TCPConn) begin(flag uint32) (d deferral, locked bool) {
	c.todo.Or(flag)
	s := c.s
	if !s.beginOrDefer(&c.work) {
		return kickNow, false
	}
	s.doWork(&c.work)
	if flag == todoOutput {
		d = s.deferAnswer()
	}
	return d, true
}

// doWork does the work that w's owner left. The lock is held.
func (s *Stack) doWork(w *ring.Work) {
	closing := s.life.closing.Load()
	if closing && !s.shared() {
		return // the frames went with the device
	}
	switch w.Kind {
	case ofTCPConn:
		(*TCPConn)(before(unsafe.Pointer(w), unsafe.Offsetof(TCPConn{}.work))).doTodo()
		if closing { // the connection has ended, and has left its frames
			s.cache.Flush()
		}
	case ofUDPConn:
		if closing {
			return // UDPConn.Close frees what is queued
		}
		s.sendQueued((*UDPConn)(before(unsafe.Pointer(w), unsafe.Offsetof(UDPConn{}.work))))
	case ofMates:
		s.takeHanded()
		if closing {
			s.cache.Flush()
		}
	case ofArrival:
		s.pollArrived()
	}
}

func (c *TCPConn) doTodo() {
	s := c.s
	f := c.todo.Swap(0)
	if c.gone {
		if f&todoClose != 0 {
			c.orphan = true
			c.tc.Free()
		}
		return
	}
	if f&todoConnect != 0 {
		c.tc.ReadDeferred(s.now)
	}
	if f&todoWindow != 0 {
		c.tc.WindowUpdate(s.now)
	}
	if f&todoCloseWrite != 0 {
		c.tc.CloseWrite(s.now)
	}
	if f&todoClose != 0 {
		c.orphan = true
		c.tc.Close(s.now)
	}
	s.touch(c)
}

// bury takes the connections that ended during the turn out of the tables.
func (s *Stack) bury() {
	for i, c := range s.turn.dead {
		s.turn.dead[i] = nil
		s.wheel.Stop(&c.timer)
		c.gone = true
		s.demux.removeConn(c)
		if c.tw {
			s.beginTimeWait(c)
		} else {
			s.demux.mates.release(ip.ProtoTCP, c.tc.Local(), c.tc.Remote())
			s.dests.unref(c.dst)
			s.ports.releaseLater(c.port)
		}
		c.dst, c.port = nil, nil
		c.state.Or(stDone)
		s.notify(&c.r)
		s.notify(&c.w)
		if c.orphan {
			c.tc.Free()
		}
	}
	s.turn.dead = s.turn.dead[:0]
}

// Read reads what has arrived, waiting for something. io.EOF is the peer's
// FIN.
func (c *TCPConn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	for {
		n, err := c.readNow(p)
		if n == 0 && err == nil && len(p) > 0 {
			if err = c.s.wait(c, dirRead, &c.r); err == nil {
				continue
			}
		}
		c.rmu.Unlock()
		return n, err
	}
}

// readNow reads what has arrived. 0, nil: there is nothing to read yet, or p is
// empty. rmu is held.
func (c *TCPConn) readNow(p []byte) (int, error) {
	if err := c.userError(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.r.over() {
		return 0, os.ErrDeadlineExceeded
	}
	// The error is looked at before the data, since data that came before it is
	// read first.
	err := c.failure()
	n, eof, update := c.tc.Read(p)
	if update {
		c.do(todoWindow)
	}
	if n > 0 {
		// A stack that was closed meanwhile has taken its frames away.
		if c.s.life.closing.Load() {
			return 0, errClosed
		}
		return n, nil
	}
	return 0, c.noData(eof, err)
}

// noData returns why a read that found nothing need not wait; nil if it is worth
// waiting. eof and err say how the stream has ended.
func (c *TCPConn) noData(eof bool, err error) error {
	if eof {
		return io.EOF
	}
	if err != nil {
		return err
	}
	if c.state.Load()&stReadClosed != 0 {
		return io.EOF
	}
	if c.tc.State() == tcp.SynSent {
		c.do(todoConnect) // nobody answers a SYN that waits for data
	}
	return nil
}

// userError returns the error of a socket that the user, or the owner of the
// stack, has closed; nil while it is open.
func (c *TCPConn) userError() error {
	if c.state.Load()&stClosed != 0 || c.s.life.ending.Load() {
		return errClosed
	}
	return nil
}

// failure returns the error that has ended the connection, nil while it lives. A
// stack that closes resets its connections, which is a close for their users.
func (c *TCPConn) failure() error {
	err := c.tc.Err()
	if err != nil && c.userError() != nil {
		return errClosed
	}
	return err
}

// Write writes all of p, and waits for room in the send buffer. If it fails, it
// returns how many bytes were taken before.
func (c *TCPConn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	n, d, locked := c.take(p)
	if locked {
		c.s.endDeferring(d)
	}
	if n >= bulkWrite {
		c.s.takeAcks()
	}
	if n < len(p) || n == 0 {
		return c.writeRest(p, n)
	}
	c.wmu.Unlock()
	return n, nil
}

// take takes as much of p as it can without waiting, and returns how many bytes. If
// locked is true, it took the lock, and endDeferring(d) must follow; otherwise
// others send what it took. wmu is held.
func (c *TCPConn) take(p []byte) (n int, d deferral, locked bool) {
	if len(p) == 0 || c.state.Load()&(stClosed|stWriteClosed) != 0 || c.s.life.ending.Load() || c.w.over() || c.tc.Err() != nil {
		return 0, kickNow, false // writeRest says why
	}
	s := c.s
	if len(p) <= smallWrite && s.tryBegin() {
		if !c.gone && !s.life.closing.Load() && c.tc.WriteNow(p) {
			s.touch(c)
			return len(p), s.deferAnswer(), true
		}
		s.end()
	}
	n = c.tc.Write(p)
	// This is done even if nothing was taken: the protocol's timer then retries for
	// a writer that got no frames.
	d, locked = c.begin(todoOutput)
	return n, d, locked
}

// writeRest continues a Write that has taken n bytes of p, possibly none. wmu is
// held, and released.
func (c *TCPConn) writeRest(p []byte, n int) (int, error) {
	defer c.wmu.Unlock()
	for {
		if err := c.mayWrite(); err != nil {
			return n, err
		}
		if len(p) == 0 {
			return 0, nil // no segment is to be made of it either
		}
		k, d, locked := c.take(p[n:])
		n += k
		if locked {
			c.s.endDeferring(d)
		}
		if k >= bulkWrite {
			c.s.takeAcks()
		}
		if n == len(p) {
			return n, nil
		}
		if k > 0 {
			continue
		}
		if err := c.s.wait(c, dirWrite, &c.w); err != nil {
			return n, err
		}
	}
}

// mayWrite returns why nothing may be written now, or nil.
func (c *TCPConn) mayWrite() error {
	if err := c.userError(); err != nil {
		return err
	}
	if c.w.over() {
		return os.ErrDeadlineExceeded
	}
	if err := c.failure(); err != nil {
		return err
	}
	if c.state.Load()&stWriteClosed != 0 {
		return syscall.EPIPE
	}
	return nil
}

// written has k bytes sent that were put into the send buffer. k may be 0: the
// protocol's timer then retries for a writer that got no frames.
func (c *TCPConn) written(k int) {
	c.do(todoOutput)
	if k >= bulkWrite {
		c.s.takeAcks()
	}
}

// bulkWrite is the size in bytes from which a Write looks for acknowledgements.
const bulkWrite = 16 << 10

// takeAcks takes the packets that have arrived, for a goroutine that writes much.
// Otherwise it would look only when the send buffer is full, after it had used more
// frames than the processor's cache holds.
func (s *Stack) takeAcks() {
	if s.rxPending() && s.tryBegin() {
		s.poll()
		if s.end() > 0 {
			runtime.Gosched()
		}
	}
}

// smallWrite is the size in bytes up to which a Write is copied under the lock,
// rather than handed to the lock's holder.
const smallWrite = 256

// CloseRead makes reads return io.EOF where they would wait, as shutdown(SHUT_RD)
// does. The peer is not told.
func (c *TCPConn) CloseRead() error {
	if err := c.userError(); err != nil {
		return err
	}
	if c.state.Load()&stDone != 0 {
		return syscall.ENOTCONN
	}
	c.state.Or(stReadClosed)
	c.tc.CloseRead()
	c.s.wake(&c.r)
	return nil
}

// CloseWrite sends FIN after all that was written.
func (c *TCPConn) CloseWrite() error {
	if err := c.userError(); err != nil {
		return err
	}
	// A caller that has just read EOF may be ahead of the turn that ends the
	// connection.
	c.s.begin()
	c.s.end()
	if c.state.Load()&stDone != 0 {
		return syscall.ENOTCONN
	}
	c.state.Or(stWriteClosed)
	c.s.wake(&c.w)
	c.wmu.Lock()
	c.do(todoCloseWrite)
	c.wmu.Unlock()
	return nil
}

// Close ends the connection: in order, or by a reset if unread data would be lost
// or SO_LINGER says so. Blocked calls return net.ErrClosed.
func (c *TCPConn) Close() error {
	for {
		st := c.state.Load()
		if st&stClosed != 0 {
			return errClosed
		}
		if c.state.CompareAndSwap(st, st|stClosed) {
			break
		}
	}
	c.s.wake(&c.r)
	c.s.wake(&c.w)
	c.rmu.Lock()
	c.wmu.Lock()
	if c.s.life.closing.Load() {
		if c.s.shared() {
			c.do(todoClose) // frees the frames
		}
	} else {
		c.do(todoClose)
		if sec := c.tc.Linger(); sec > 0 {
			c.s.setDeadline(&c.w, time.Now().Add(time.Duration(sec)*time.Second))
			// Linux returns success even if the time was not enough.
			_ = c.s.wait(lingering{c}, dirWrite, &c.w)
		}
		// The goroutine that read the last bytes left the queues unarmed, since it
		// was expected back soon. It may not come back, and the next client must
		// not wait for the reactor's tick.
		c.s.arm()
	}
	c.r.stop()
	c.w.stop()
	c.wmu.Unlock()
	c.rmu.Unlock()
	return nil
}

// LocalAddr is the local address.
func (c *TCPConn) LocalAddr() netip.AddrPort { return c.tc.Local() }

// RemoteAddr is the peer's address.
func (c *TCPConn) RemoteAddr() netip.AddrPort { return c.tc.Remote() }

// Stack is the stack that carries the connection.
func (c *TCPConn) Stack() *Stack { return c.s }

// Link is the index of the interface that c's packets leave by at present; if c has
// ended, of the first one.
func (c *TCPConn) Link() int {
	c.s.begin()
	defer c.s.end()
	if c.dst == nil {
		return c.s.links[0].index
	}
	return c.dst.link()
}

// SetDeadline sets both deadlines.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if err := c.userError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.r, t)
	c.s.setDeadline(&c.w, t)
	return nil
}

// SetReadDeadline sets when Read gives up; the zero Time is never.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	if err := c.userError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.r, t)
	return nil
}

// SetWriteDeadline sets when Write gives up; the zero Time is never.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	if err := c.userError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.w, t)
	return nil
}

// control runs fn under the stack lock, unless the protocol is done.
func (c *TCPConn) control(fn func()) error {
	return c.look(func() {
		if !c.gone {
			fn()
			c.s.touch(c)
		}
	})
}

// look runs fn, which changes nothing, under the stack lock.
func (c *TCPConn) look(fn func()) error {
	if err := c.userError(); err != nil {
		return err
	}
	s := c.s
	s.begin()
	if s.life.closing.Load() {
		s.end()
		return errClosed
	}
	fn()
	s.end()
	return nil
}

// SetNoDelay turns Nagle's algorithm off (true, the default) or on.
func (c *TCPConn) SetNoDelay(on bool) error {
	return c.control(func() { c.tc.SetNoDelay(on) })
}

// SetLinger is SO_LINGER: sec < 0 closes in the background (the default), 0
// resets, > 0 has Close wait so long for the peer's acknowledgement.
func (c *TCPConn) SetLinger(sec int) error {
	return c.control(func() {
		c.tc.SetLinger(sec)
	})
}

// SetKeepAlive sets the keepalive probes: the first after idle, then every
// interval, and the connection is dead after count of them.
func (c *TCPConn) SetKeepAlive(ka tcp.KeepAlive) error {
	return c.control(func() { c.tc.SetKeepAlive(ka, c.s.now) })
}

// KeepAlive returns the keepalive settings.
func (c *TCPConn) KeepAlive() (ka tcp.KeepAlive, err error) {
	err = c.look(func() { ka = c.tc.KeepAlive() })
	return ka, err
}

// SetUserTimeout is TCP_USER_TIMEOUT (RFC 5482); 0 is the default.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.control(func() { c.tc.SetUserTimeout(d) })
}

// SetReadBuffer sets the receive buffer, in bytes.
func (c *TCPConn) SetReadBuffer(n int) error {
	return c.control(func() { c.tc.SetRcvBuf(n) })
}

// SetWriteBuffer sets the send buffer, in bytes.
func (c *TCPConn) SetWriteBuffer(n int) error {
	return c.control(func() { c.tc.SetSndBuf(n) })
}

// SetCongestion chooses the congestion control by name (TCP_CONGESTION).
func (c *TCPConn) SetCongestion(name string) error {
	ok := true
	if err := c.control(func() { ok = c.tc.SetCongestion(name, c.s.now) }); err != nil {
		return err
	}
	if !ok {
		return syscall.ENOENT // as setsockopt(TCP_CONGESTION)
	}
	return nil
}

// SetMaxPacingRate bounds the rate of sending, bytes per second
// (SO_MAX_PACING_RATE); 0 takes the bound away.
func (c *TCPConn) SetMaxPacingRate(rate uint64) error {
	return c.control(func() { c.tc.SetMaxPacingRate(rate) })
}

// Info is the connection's state (TCP_INFO); after its end, the last state.
func (c *TCPConn) Info() (i tcp.Info, err error) {
	err = c.look(func() { i = c.tc.Info(c.s.now) })
	return i, err
}
