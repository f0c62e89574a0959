// Package policy reads the file that says which users may share which interfaces by a
// broker, and with what.
//
// The file is TOML (toml.io). Each [[allow]] is a rule for the users and groups that it names:
//
//	[[allow]]
//	users = ["www-data", 1000]          # names or numbers, "*" is everybody
//	groups = ["web"]                    # also supplementary ones
//	interfaces = ["eth0"]               # names, "*" is all that the broker has
//	addresses = ["192.0.2.0/24"]        # local ones; none named: all, wildcards too
//	ports = ["tcp 8080", "udp 5000-5999", "tcp ephemeral"] # local ones; none named: all
//	memory = "64MiB"                    # packet memory of a process; 256MiB if not given
//	max-ports = 1024                    # claimed at a time by a process; 4096 if not given
//	processes = 10                      # of a user at a time; 64 if not given
//	rate = "1Gbit"                      # sent in a second by a process; no limit if not given
//	packets = 100000                    # sent in a second by a process; no limit if not given
//	packet-rings = true                 # see Limits.PacketRings; false if not given
//
// A request is allowed if one rule allows all of it. What no rule allows is refused. The
// kernel decides first: a process has to bind a port before it can ask for it here.
// Unknown or invalid fields are errors that name them.
package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
)

// Policy is what a file says.
type Policy struct {
	rules []rule
}

// rule is an [[allow]].
type rule struct {
	everybody  bool
	users      []uint32
	groups     []uint32
	interfaces []string
	addresses  []netip.Prefix // none: all
	ports      []portRange    // none: all
	Limits
}

// Limits bound what a process may use.
type Limits struct {
	Memory    int64  // bytes of packet memory
	Ports     int    // at a time
	Processes int    // of the user at a time
	RateBytes uint64 // sent in a second; 0: no limit
	Packets   uint64 // sent in a second; 0: no limit
	// PacketRings trusts the process with memory that no limit counts: it gets a packet
	// socket, by which the kernel segments, also where the kernel cannot refuse rings for it.
	PacketRings bool
}

// Defaults of Limits.
const (
	DefaultMemory    = 256 << 20
	DefaultPorts     = 4096
	DefaultProcesses = 64
)

// portRange is ports of a protocol.
type portRange struct {
	proto     uint8
	low, high uint16
	ephemeral bool // the range is the kernel's
}

// User is who asks.
type User struct {
	UID    uint32
	Groups []uint32 // the process's group and its supplementary ones
}

// ErrDenied says that no rule allows a request.
var ErrDenied = errors.New("the broker's policy allows it to nobody like this user")

// Load reads a policy file.
func Load(path string) (*Policy, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Interfaces returns those of all that the user may use.
func (p *Policy) Interfaces(u User, all []string) (l []string) {
	for _, name := range all {
		if _, ok := p.Limits(u, name); ok {
			l = append(l, name)
		}
	}
	return l
}

// Limits returns the bounds of a process of the user on an interface: of several rules the most
// generous one counts for each. ok is false if the user may not use it.
func (p *Policy) Limits(u User, iface string) (l Limits, ok bool) {
	for i := range p.rules {
		if r := &p.rules[i]; r.concerns(u, iface) {
			if !ok {
				l, ok = r.Limits, true
				continue
			}
			l.Memory, l.Ports, l.Processes = max(l.Memory, r.Memory), max(l.Ports, r.Ports), max(l.Processes, r.Processes)
			l.PacketRings = l.PacketRings || r.PacketRings
			l.RateBytes, l.Packets = moreRate(l.RateBytes, r.RateBytes), moreRate(l.Packets, r.Packets)
		}
	}
	return l, ok
}

// moreRate is the larger of two limits, of which 0 is none.
func moreRate(a, b uint64) uint64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// Port reports whether the user may have a local port. The zero Addr and unspecified addresses are
// wildcards. ephemeral is the kernel's range of ports, both ends included.
func (p *Policy) Port(u User, iface string, proto uint8, at netip.AddrPort, ephemeral [2]uint16) bool {
	for i := range p.rules {
		if r := &p.rules[i]; r.concerns(u, iface) && r.address(at.Addr()) && r.port(proto, at.Port(), ephemeral) {
			return true
		}
	}
	return false
}

func (r *rule) concerns(u User, iface string) bool {
	if !slices.Contains(r.interfaces, "*") && !slices.Contains(r.interfaces, iface) {
		return false
	}
	return r.everybody || slices.Contains(r.users, u.UID) ||
		slices.ContainsFunc(u.Groups, func(g uint32) bool { return slices.Contains(r.groups, g) })
}

func (r *rule) address(a netip.Addr) bool {
	if len(r.addresses) == 0 {
		return true
	}
	if !a.IsValid() || a.IsUnspecified() {
		return false // it stands for all
	}
	return slices.ContainsFunc(r.addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (r *rule) port(proto uint8, port uint16, ephemeral [2]uint16) bool {
	if len(r.ports) == 0 {
		return true
	}
	return slices.ContainsFunc(r.ports, func(x portRange) bool {
		low, high := x.low, x.high
		if x.ephemeral {
			low, high = ephemeral[0], ephemeral[1]
		}
		return x.proto == proto && low <= port && port <= high
	})
}
