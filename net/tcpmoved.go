package onload

import (
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
)

// handedOver is why the kernel carries a connection that was ours; the rest says what
// for.
const handedOver = "handed over to the kernel "

// File returns a copy of the kernel's socket, which carries the connection from then
// on.
func (c *stackTCP) File() (*os.File, error) {
	err := engine.HandOverTCP(c.s, handedOver+"(File)", wrapTCP)
	if err == nil {
		err = net.ErrClosed // that of c.s
	}
	if k := c.next(err); k != nil {
		return k.File() // c's again, if another call of File failed
	}
	return nil, c.opError("file", "dup", err)
}

// wrapTCP implements engine.Wrap.
func wrapTCP(fd int) (any, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(own), "")
	defer f.Close()
	return net.FileConn(f)
}

// next returns the carrier that goes on with the connection, where err is what the
// stack says of one that it has handed over; else nil.
func (c *stackTCP) next(err error) tcpCarrier {
	if err != net.ErrClosed {
		return nil
	}
	if m := engine.MovedTCP(c.s); m != nil {
		m.Notice(func() { c.leaveFor(m) })
	}
	if v := c.conn.via(); v != tcpCarrier(c) {
		return v
	}
	if !c.s.Closed() {
		return c // it goes on where it was
	}
	return nil
}

// leaveFor makes the kernel the carrier of c's owner.
func (c *stackTCP) leaveFor(m *engine.Moved) {
	k, ok := m.Kernel.(*net.TCPConn)
	if !ok {
		return
	}
	// The socket is open, so neither fails.
	if !m.ReadBy.IsZero() {
		_ = k.SetReadDeadline(m.ReadBy)
	}
	if !m.WriteBy.IsZero() {
		_ = k.SetWriteDeadline(m.WriteBy)
	}
	var v tcpCarrier = &kernelTCP{k, m.Why, c.network()}
	c.conn.carrier.Store(&v)
	engine.ForgetTCP(c.s)
	if ends := c.ends.Load(); ends != nil {
		closeShadow(ends)
	}
}

// readOn is Read where the stack's failed by err.
func (c *stackTCP) readOn(b []byte, err error) (int, error) {
	if k := c.next(err); k != nil {
		return k.Read(b)
	}
	return 0, c.readError(err)
}

// writeOn is Write where the stack has taken n bytes of b and failed by err.
func (c *stackTCP) writeOn(b []byte, n int, err error) (int, error) {
	if k := c.next(err); k != nil {
		m, err := k.Write(b[n:])
		return n + m, err
	}
	return n, c.writeError(err)
}

// writeRest has the next carrier take p, where the stack has not by err.
func (c *stackTCP) writeRest(p []byte, err error) error {
	if k := c.next(err); k != nil {
		_, err = k.Write(p)
	}
	return err
}

// writeBuffersOn is writeBuffers likewise. ok is false if the kernel does not carry c.
func (c *stackTCP) writeBuffersOn(v [][]byte, n int64, err error) (total int64, _ error, ok bool) {
	k := c.next(err)
	if k == nil {
		return n, err, false
	}
	rest := Buffers(slices.Clone(v))
	rest.consume(n)
	m, err := (*net.Buffers)(&rest).WriteTo(k)
	return n + m, err, true
}
