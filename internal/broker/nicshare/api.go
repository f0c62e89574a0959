package nicshare

import (
	"errors"
)

// NIC is an interface that is shared. Its methods may be called from any goroutine.
type NIC struct{}

// Open attaches the steering program to the interface, or takes over what an earlier
// process has left pinned: then its links carry on, and no packet is lost. It fails
// with a *driver/afxdp.ProgramError where another program is attached.
func Open(c Config) (*NIC, error) { return nil, errors.ErrUnsupported }

// Close ends all links and removes everything: the interface is the kernel's again.
func (n *NIC) Close() error { return nil }

// Detach gives up the descriptors, and leaves everything pinned for a later Open.
func (n *NIC) Detach() error { return nil }

// Links returns the links that live, also those that an earlier process made.
func (n *NIC) Links() []*Link { return nil }

// NewLink makes a link. Nothing can be sent or received by it before Grant and Allow.
func (n *NIC) NewLink(c LinkConfig) (*Link, error) { return nil, errors.ErrUnsupported }

// Link is the link of one process.
type Link struct{}

// ID is the number of the link on its NIC, from 0 on. It stays the same when another
// process takes the NIC over, and is given again some time after the link has ended.
func (l *Link) ID() int { return 0 }

// Token is that of LinkConfig.
func (l *Link) Token() [16]byte { return [16]byte{} }

// Grant makes the sockets of the process. It can be called once, and only by the
// process that made the link.
func (l *Link) Grant(c GrantConfig) (Grant, error) { return Grant{}, errors.ErrUnsupported }

// Alive reports whether the kernel still has the link. It removes the link when the
// last socket of the Grant is closed, some 40 ms later.
func (l *Link) Alive() bool { return false }

// Allow gives the link all ports, or none: from now on packets for them go to its
// process, and it may send from them. A port or group that another link has is
// EADDRINUSE.
func (l *Link) Allow(ports ...Port) error { return errors.ErrUnsupported }

// Revoke takes ports away. Those that the link does not have are left alone.
func (l *Link) Revoke(ports ...Port) error { return errors.ErrUnsupported }

// AllowFlow gives the link a connection whose port may belong to another link or the
// kernel. EADDRINUSE if another link has the flow.
func (l *Link) AllowFlow(f Flow) error { return errors.ErrUnsupported }

// RevokeFlow takes a flow away: its port's entry counts again.
func (l *Link) RevokeFlow(f Flow) error { return errors.ErrUnsupported }

// ExceptFlow gives the kernel a connection of a port of the link's.
func (l *Link) ExceptFlow(f Flow) error { return errors.ErrUnsupported }

// Move gives all ports and flows of the link, or those named, to another link of the
// same NIC; each entry changes hands at once.
func (l *Link) Move(to *Link, ports ...Port) error { return errors.ErrUnsupported }

// Ports and Flows list what the link has.
func (l *Link) Ports() ([]Port, error) { return nil, errors.ErrUnsupported }

// Flows lists the flows that the link has.
func (l *Link) Flows() ([]Flow, error) { return nil, errors.ErrUnsupported }

// Counters asks the programs; not for the hot path.
func (l *Link) Counters() (LinkCounters, error) { return LinkCounters{}, errors.ErrUnsupported }

// Close takes all ports and flows away, then the link.
func (l *Link) Close() error { return nil }
