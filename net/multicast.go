package onload

import (
	"net"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/outside"
)

// listenGroup is ListenMulticastUDP of the engine.
func (e *Engine) listenGroup(network string, ifi *net.Interface, gaddr *net.UDPAddr) (*UDPConn, error) {
	if ifi == nil {
		ifi = &net.Interface{}
	}
	if link, ok := e.in.NIC(ifi.Name, ifi.Index); ok {
		return e.listenNICGroup(network, link, gaddr)
	}
	if ifi.Name == "" && ifi.Index == 0 {
		ifi = nil
	}
	var k *net.UDPConn
	err := e.inNS("listen", network, func() (err error) {
		k, err = net.ListenMulticastUDP(network, ifi, gaddr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.overGroup(k, network, gaddr)
}

// overGroup returns the socket whose half in the kernel is k, which is bound to the
// port of a group: net binds it to all addresses, and allows other sockets to have
// the port too.
func (e *Engine) overGroup(k *net.UDPConn, network string, gaddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		_ = k.Close()
		return nil, &net.OpError{Op: "listen", Net: network, Addr: udpOrNil(gaddr), Err: cause("bind", err)}
	}
	if !e.in.Accelerates() {
		return kernelUDPConn(k, e.in.Notice()), nil
	}
	own := k.LocalAddr().(*net.UDPAddr).AddrPort()
	o, f, err := e.in.TwinOptions(k)
	if err != nil {
		return fail(err)
	}
	if o.Kernel != "" {
		return kernelUDPConn(k, o.Kernel), nil
	}
	sh := e.in.Shards(f, own.Addr().Unmap())
	if len(sh.Stacks) == 0 {
		return kernelUDPConn(k, sh.Why), nil
	}
	o.GroupsOnly = true
	c, err := e.bindUDP(&sh, k, network, own.Port(), o, func() {})
	if err != nil {
		return fail(err)
	}
	return newUDPConn(c), nil
}

// bindUDP is a socket bound at the shards, of which k is the kernel's half, nil
// where there is no kernel. If others have its port too, what is sent to this host
// alone is the kernel's.
func (e *Engine) bindUDP(sh *engine.Shards, k *net.UDPConn, network string, port uint16, o engine.Options, unshare func()) (*boundUDP, error) {
	on, err := e.in.Bind(sh, port, k != nil, &o)
	if err == syscall.EADDRINUSE && (k != nil || o.ReuseAddr()) {
		o.GroupsOnly = true
		on, err = e.in.Bind(sh, port, k != nil, &o)
	}
	if err != nil {
		o.CloseSocket()
		return nil, err
	}
	hooked := o.Hooked || o.Socket != nil
	c := newBoundUDP(e, on, k, network, &o, unshare)
	if o.GroupsOnly && k != nil || hooked {
		err = c.hear()
	}
	if k == nil {
		if err != nil {
			_ = c.close()
			return nil, err
		}
		return c, nil
	}
	outside.Do(func() { c.pumped.Go(c.pump) })
	if !e.in.Track(c, c.close) && err == nil {
		err = net.ErrClosed
	}
	if err != nil {
		_ = c.close() // and with it k
		return nil, err
	}
	return c, nil
}

// hear has the socket hear the multicast groups that its kernel's half has joined, or the
// kernel's socket for its options.
func (c *boundUDP) hear() error {
	raw, err := c.kernelRaw()
	if err != nil {
		return err
	}
	return c.on.Hear(raw)
}
