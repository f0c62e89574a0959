package doctor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/engine"
)

// variable returns the value of a variable of the environment.
func (p *patient) variable(name string) string {
	for _, kv := range slices.Backward(p.Environ) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// settings looks at the variables, and finds out which interfaces are meant.
func (p *patient) settings() {
	for _, kv := range p.Environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "ONLOAD_") || value == "" {
			continue
		}
		if err := engine.CheckVariable(kv); err != nil {
			p.find(Broken, "setting", name, strings.ReplaceAll(err.Error(), "\n", "; "), "unset "+name)
		}
	}
	if p.variable("ONLOAD") == "off" {
		p.find(Broken, "off", "ONLOAD", "ONLOAD=off makes a program of onload build a plain one.", "unset ONLOAD")
	}
	if path := p.variable("ONLOAD_BROKER"); path != "" && path != "off" {
		if _, err := os.Stat(path); err != nil {
			p.find(Broken, "broker", path, fmt.Sprintf("ONLOAD_BROKER names a socket that is not there: %v.", errors.Unwrap(err)), "unset ONLOAD_BROKER", "systemctl start onload-broker")
		}
	}
	if p.variable("ONLOAD_XDP_MODE") == "generic" {
		p.find(Note, "generic", "ONLOAD_XDP_MODE", "ONLOAD_XDP_MODE=generic is slower on NICs whose driver runs XDP natively.", "unset ONLOAD_XDP_MODE")
	}
	p.meant()
}

// meant fills in which interfaces to look at.
func (p *patient) meant() {
	all, err := netlink.LinkList()
	if err != nil {
		p.find(Broken, "netlink", "", fmt.Sprintf("The interfaces cannot be listed: %v.", err))
		return
	}
	names := map[string]bool{}
	var fit []string
	for _, l := range all {
		a := l.Attrs()
		names[a.Name] = true
		if a.Flags&1 != 0 && a.EncapType == "ether" && a.MasterIndex == 0 && l.Type() != "bridge" && l.Type() != "vlan" {
			fit = append(fit, a.Name)
		}
	}
	example := "IF"
	if len(fit) > 0 {
		example = fit[0]
	}
	said := strings.Split(p.variable("ONLOAD_INTERFACES"), ",")
	switch {
	case p.Interface != "":
		said = []string{p.Interface}
	case said[0] == "" || said[0] == "none":
		p.find(Broken, "no-interfaces", "ONLOAD_INTERFACES", "No interface may be taken: ONLOAD_INTERFACES names none.", "export ONLOAD_INTERFACES="+quoted(example))
		said = fit
	case said[0] == "auto":
		said = fit
	}
	for _, name := range said {
		switch name = strings.TrimSpace(name); {
		case strings.Count(name, ":") == 2:
			continue // a PCI address: onload nic list
		case name == "lo":
			p.find(Broken, "loopback", name, "Loopback is always the kernel's.", "export ONLOAD_INTERFACES="+quoted(example))
		case !names[name]:
			p.find(Broken, "no-such-interface", name, fmt.Sprintf("There is no interface %s in this network namespace.", name), "export ONLOAD_INTERFACES="+quoted(example))
		default:
			p.links = append(p.links, name)
		}
	}
}

// brokered reports whether interfaces are taken by a broker, whose privileges count then.
func (p *patient) brokered() bool {
	path := p.variable("ONLOAD_BROKER")
	if path == "off" {
		return false
	}
	if path == "" {
		path = p.Root + wire.DefaultSocket
	}
	_, err := os.Stat(path)
	return err == nil
}
