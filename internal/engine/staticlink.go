package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/onload-go/onload/ip"
)

// staticLink is what Config.Static says of an interface that no kernel stands behind.
type staticLink struct {
	name   string
	addrs  []netip.Prefix
	routes []staticRoute
	dns    []netip.Addr
	dhcp   bool // more of all these comes from a DHCP server
	slaac  bool // or from the routers of the link
	// tap is the TAP device by which the kernel is the host on the link; empty: we are.
	tap string
}

// Words of Config.Static that ask for DHCP, SLAAC and a TAP device.
const (
	wordDHCP  = "dhcp"
	wordSLAAC = "slaac"
	wordTAP   = "tap"
)

// staticRoute leads to dst by a neighbour.
type staticRoute struct {
	dst netip.Prefix
	via netip.Addr
}

// pciAddress is a pattern with domain, bus, device and function, as lspci -D writes
// them. Package regexp would be a third of a MiB more in each program.
const pciAddress = hexDigit + hexDigit + hexDigit + hexDigit + ":" + hexDigit + hexDigit + ":[01]" + hexDigit + ".[0-7]"

const hexDigit = "[0-9a-f]"

// isPCI reports whether an interface is named by its PCI address. No interface of the
// kernel's has a colon in its name.
func isPCI(name string) bool {
	ok, _ := path.Match(pciAddress, name)
	return ok
}

// parseStatic reads an element of Config.Static: the name of the interface, its
// addresses with their subnets, "dhcp", "slaac", then routes ("default via A", "PREFIX via A") and name
// servers ("dns A"), in the words of ip(8); or "tap NAME" in place of all these.
func parseStatic(text string) (l staticLink, err error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return l, errors.New("it is empty")
	}
	l.name = words[0]
	if !isPCI(l.name) {
		return l, fmt.Errorf("%q is no PCI address such as 0000:01:00.0", l.name)
	}
	for words = words[1:]; len(words) > 0; {
		switch {
		case words[0] == wordDHCP:
			l.dhcp = true
			words = words[1:]
		case words[0] == wordSLAAC:
			l.slaac = true
			words = words[1:]
		case words[0] == wordTAP && len(words) >= 2:
			l.tap = words[1]
			words = words[2:]
		case words[0] == "dns" && len(words) >= 2:
			a, err := netip.ParseAddr(words[1])
			if err != nil || !ip.Unicast(a) {
				return l, fmt.Errorf("%q is no name server's address", words[1])
			}
			l.dns = append(l.dns, a)
			words = words[2:]
		case len(words) >= 3 && words[1] == "via":
			r, err := parseRoute(words[0], words[2])
			if err != nil {
				return l, err
			}
			l.routes = append(l.routes, r)
			words = words[3:]
		default:
			p, err := netip.ParsePrefix(words[0])
			if err != nil || !ip.Unicast(p.Addr()) {
				return l, fmt.Errorf("%q is neither an address with its subnet nor %q, %q, %q, %q or %q", words[0], wordDHCP, wordSLAAC, "PREFIX via GATEWAY", "dns ADDRESS", "tap NAME")
			}
			l.addrs = append(l.addrs, p)
			words = words[1:]
		}
	}
	return l, l.check()
}

func parseRoute(dst, via string) (r staticRoute, err error) {
	if r.via, err = netip.ParseAddr(via); err != nil || !ip.Unicast(r.via) {
		return r, fmt.Errorf("%q is no gateway's address", via)
	}
	if dst == "default" {
		r.dst, err = r.via.Prefix(0)
		return r, err
	}
	if r.dst, err = netip.ParsePrefix(dst); err != nil {
		return r, fmt.Errorf("%q is no prefix", dst)
	}
	if r.dst.Addr().Is4() != r.via.Is4() {
		return r, fmt.Errorf("%v and its gateway %v are of different families", r.dst, r.via)
	}
	return r, nil
}

// check finds what no host can have.
func (l *staticLink) check() error {
	if l.tap != "" {
		if len(l.addrs)+len(l.routes)+len(l.dns) > 0 || l.dhcp || l.slaac {
			return fmt.Errorf("the kernel is the host by the TAP device %s, which is to have the addresses, routes and name servers", l.tap)
		}
		return nil
	}
	if len(l.addrs) == 0 && !l.dhcp && !l.slaac {
		return errors.New("it has no address")
	}
	for i, p := range l.addrs {
		if slices.ContainsFunc(l.addrs[:i], func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
			return fmt.Errorf("%v is there twice", p.Addr())
		}
	}
	for _, r := range l.routes {
		on := func(p netip.Prefix) bool { return p.Contains(r.via) && p.Addr() != r.via }
		if !slices.ContainsFunc(l.addrs, on) && !(r.via.Is6() && r.via.IsLinkLocalUnicast()) {
			return fmt.Errorf("the gateway %v is in no subnet of the interface", r.via)
		}
	}
	return nil
}

// checkStatic checks Config.Static: each interface that is a PCI address has one
// element, and there are no others.
func checkStatic(c *Config) error {
	var names []string
	for _, text := range c.Static {
		l, err := parseStatic(text)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", text, err)
		case slices.Contains(names, l.name):
			return fmt.Errorf("%q is described twice", l.name)
		case !slices.Contains(c.Interfaces, l.name):
			return fmt.Errorf("%q is not one of the interfaces", l.name)
		}
		names = append(names, l.name)
	}
	for _, name := range c.Interfaces {
		if isPCI(name) && !slices.Contains(names, name) {
			return fmt.Errorf("%q has no address: a device without the kernel has those that are named here", name)
		}
	}
	return nil
}

// staticOf is the description of an interface in the configuration, which is valid.
func (c *Config) staticOf(name string) (l staticLink) {
	for _, text := range c.Static {
		if l, _ = parseStatic(text); l.name == name {
			return l
		}
	}
	return staticLink{}
}

// NameServers are those that the configuration and servers of the links name, to be asked
// by the engine's own sockets; none: the system's.
func (e *Engine) NameServers() (all []netip.Addr) {
	if len(e.cfg.Static) == 0 {
		return nil // each dial asks
	}
	for _, i := range e.interfaces() {
		if i.err() == nil && !i.Kernel {
			all = append(all, i.host.nameServers()...)
		}
	}
	return all
}
