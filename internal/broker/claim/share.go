package claim

import (
	"os"

	"golang.org/x/sys/unix"
)

// A listener closes, its connections live on, and the process listens at the port again:
// servers do that with SO_REUSEADDR. The socket that holds the port stands in their way.

// Share lets other sockets with SO_REUSEADDR bind the port of TCP, as long as nobody
// listens there.
func (c *Claim) Share() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.setReuse(true); err != nil {
		return err
	}
	c.shared = true
	return nil
}

// Renew ends Share. fd, which stays the caller's, has to be a socket that listens at the
// port: only one can. cookie is as in Prove. Without a Share there is nothing to prove. After
// an error the port is shared still, so that Unshare finds who else has it.
func (c *Claim) Renew(fd int, cookie uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shared {
		return nil
	}
	s, err := inspect(fd, cookie)
	switch {
	case err != nil:
		return err
	case s.proto != c.Proto || s.local() != c.Local:
		return refuse(unix.EINVAL, "is bound to %v", s.local())
	case !s.listens:
		return refuse(unix.EINVAL, "does not listen")
	}
	// From now on nobody else is let in, so that listens tells.
	if err := c.setReuse(false); err != nil {
		return err
	}
	if err := s.listensThere(); err != nil {
		return err
	}
	c.shared = false
	return nil
}

// Unshare ends Share where no socket was shown. If somebody else has the port by now, the
// error is EADDRINUSE.
func (c *Claim) Unshare() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket < 0 || !c.shared {
		return nil
	}
	sa, err := unix.Getsockname(c.socket)
	family, _ := unix.GetsockoptInt(c.socket, unix.SOL_SOCKET, unix.SO_DOMAIN)
	only6, _ := unix.GetsockoptInt(c.socket, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	probe := &socket{family: family, only6: only6 == 1, sa: sa}
	fd, err := probe.bindOwn(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err != nil {
		return refuse(unix.EADDRINUSE, "of another process has the port: %v", err)
	}
	_ = unix.Close(fd)
	if err := c.setReuse(false); err != nil {
		return err
	}
	c.shared = false
	return nil
}

// setReuse: c.mu is held.
func (c *Claim) setReuse(on bool) error {
	if c.socket < 0 {
		return nil
	}
	return (&socket{fd: c.socket}).setReuse(on)
}
