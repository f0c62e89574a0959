package onload

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// ReadBatch reads as many datagrams as are there, one for each of ms, and waits
// for the first. It returns their number. It is the method of PacketConn of
// golang.org/x/net/ipv4 and ipv6, whose Message is one type: of each message it
// fills Buffers, OOB, N, NN, Flags and Addr, a *UDPAddr. An Addr that is there and
// right is left, so that batches from one peer allocate nothing. flags are those
// of recvmmsg(2), of which an accelerated socket knows MSG_DONTWAIT (and what net's
// sockets do in any case, MSG_WAITFORONE).
func (c *UDPConn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	return c.via().readBatch(ms, flags)
}

// WriteBatch sends one datagram for each of ms, with the control messages in OOB,
// to Addr, a *UDPAddr, or nil for the peer of a connected socket. It returns how
// many were sent, and sets N of those. Together they cost one system call at most.
func (c *UDPConn) WriteBatch(ms []ipv4.Message, flags int) (int, error) {
	return c.via().writeBatch(ms, flags)
}

func (c *stackUDP) readBatch(ms []ipv4.Message, flags int) (n int, err error) {
	for n < len(ms) {
		var info udp.Info
		m := &ms[n]
		b := buffer(m.Buffers)
		k, full, ok := 0, 0, true
		if n == 0 && flags&unix.MSG_DONTWAIT == 0 {
			k, full, err = c.s.ReadInfo(b, &info)
		} else {
			k, full, ok, err = c.s.TryRead(b, &info, n == 0)
		}
		if err != nil && n == 0 {
			if kernel := c.gone(err); kernel != nil {
				return kernel.readBatch(ms, flags)
			}
			return 0, c.readError("recvmmsg", err)
		}
		if err != nil || !ok {
			break
		}
		if len(m.Buffers) > 1 {
			scatterTo(m.Buffers, b[:k])
		}
		m.N = k
		m.NN, m.Flags = c.message(m.OOB, k, full, &info)
		if a, ok := m.Addr.(*net.UDPAddr); !ok || a == nil || a.Zone != "" || addrPort(a.IP, a.Port, "") != info.Src {
			m.Addr = udpAddr(info.Src, c.wide)
		}
		n++
	}
	if n == 0 && len(ms) > 0 {
		return 0, c.readError("recvmmsg", syscall.EAGAIN)
	}
	return n, nil
}

// buffer is where a datagram is read to: the only one of bs, or one of the size of
// all.
func buffer(bs [][]byte) []byte {
	if len(bs) == 1 {
		return bs[0]
	}
	n := 0
	for _, b := range bs {
		n += len(b)
	}
	return make([]byte, n)
}

func scatterTo(bs [][]byte, p []byte) {
	for _, b := range bs {
		p = p[copy(b, p):]
	}
}

// payload is what bs hold, one behind the other.
func payload(bs [][]byte) []byte {
	if len(bs) == 1 {
		return bs[0]
	}
	return bytes.Join(bs, nil)
}

// sendOne sends m by s to dst. more: others follow, or Flush.
func (c *stackUDP) sendOne(s *stack.UDPConn, m *ipv4.Message, dst netip.AddrPort, more bool) (err error) {
	out := stack.Message{Dst: dst, More: more}
	if err = c.e.in.Command(&out, m.OOB, c.six); err == nil {
		m.N, err = s.WriteMsg(payload(m.Buffers), &out)
	}
	return err
}

func (c *connectedUDP) writeBatch(ms []ipv4.Message, flags int) (n int, err error) {
	for ; n < len(ms) && err == nil; n++ {
		m := &ms[n]
		if m.Addr != nil {
			err = net.ErrWriteToConnected
		} else {
			err = c.sendOne(c.s, m, netip.AddrPort{}, n < len(ms)-1)
		}
	}
	if err == nil {
		return n, nil
	}
	n--
	c.s.Flush()
	if n > 0 {
		return n, nil // as sendmmsg(2): the next call returns the error
	}
	k := c.gone(err)
	if err == engine.ErrOnlyKernel {
		if k, err = c.kernel(engine.OnlyKernelWhy); err != nil {
			return 0, err
		}
	}
	if k != nil {
		return k.writeBatch(ms, flags)
	}
	return 0, c.writeError("sendmmsg", ms[0].Addr, err)
}

func (c *boundUDP) writeBatch(ms []ipv4.Message, flags int) (n int, err error) {
	var last *stack.UDPConn
	for ; n < len(ms) && err == nil; n++ {
		m := &ms[n]
		a, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			err = syscall.EINVAL
			continue
		}
		s, dst, e := c.to(a)
		if s != last && last != nil {
			last.Flush()
		}
		last = s
		switch {
		case e != nil:
			err = e
			continue
		case s != nil:
			err = c.sendOne(s, m, dst, n < len(ms)-1)
		}
		if s == nil || err == engine.ErrOnlyKernel && c.k != nil {
			m.N, _, err = c.k.WriteMsgUDP(payload(m.Buffers), m.OOB, a)
		}
	}
	if last != nil {
		last.Flush()
	}
	if err == nil {
		return n, nil
	}
	if n--; n > 0 {
		return n, nil
	}
	if k := c.gone(err); k != nil {
		return k.writeBatch(ms, flags)
	}
	return 0, c.writeError("sendmmsg", ms[0].Addr, err)
}

func (c *kernelUDP) readBatch(ms []ipv4.Message, flags int) (int, error) {
	return c.batches().ReadBatch(ms, flags)
}

func (c *kernelUDP) writeBatch(ms []ipv4.Message, flags int) (int, error) {
	return c.batches().WriteBatch(ms, flags)
}

// batches has the batch calls of a kernel socket; those of x/net's ipv6 are the
// same.
func (c *kernelUDP) batches() *ipv4.PacketConn {
	c.once.Do(func() { c.batch = ipv4.NewPacketConn(c.UDPConn) })
	return c.batch
}

func (noUDP) readBatch([]ipv4.Message, int) (int, error)  { return 0, syscall.EINVAL }
func (noUDP) writeBatch([]ipv4.Message, int) (int, error) { return 0, syscall.EINVAL }
