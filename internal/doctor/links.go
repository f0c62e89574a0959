package doctor

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/driver/afxdp/affinity"
)

// link is an interface that is looked at.
type link struct {
	*patient
	netlink.Link
	*netlink.LinkAttrs
	xdp afxdp.Support
}

func (p *patient) eachLink() {
	for _, name := range p.links {
		l, err := netlink.LinkByName(name)
		if err != nil {
			p.find(Broken, "no-such-interface", name, fmt.Sprintf("Interface %s cannot be looked at: %v.", name, err))
			continue
		}
		k := &link{patient: p, Link: l, LinkAttrs: l.Attrs()}
		if k.xdp, err = afxdp.SupportOf(name); err != nil {
			p.find(Broken, "no-such-interface", name, fmt.Sprintf("Interface %s cannot be looked at: %v.", name, err))
			continue
		}
		before := len(p.Findings)
		k.state()
		k.program()
		k.driver()
		k.disciplines()
		k.addresses()
		k.offloads()
		verdict := "accelerated"
		for _, f := range p.Findings[before:] {
			if f.Severity == Broken {
				verdict = "left to the kernel"
			}
		}
		p.Interfaces = append(p.Interfaces, Interface{
			Name: name, Driver: k.xdp.Driver, Native: k.xdp.Native, ZeroCopy: k.xdp.ZeroCopy, MultiBuffer: k.xdp.MultiBuffer,
			Queues: k.xdp.Queues, MTU: k.MTU, Verdict: verdict,
		})
	}
}

// say adds a finding about the interface.
func (k *link) say(s Severity, id, says string, commands ...string) {
	k.find(s, id, k.Name, k.Name+" "+says, commands...)
}

// state looks at what ip link shows.
func (k *link) state() {
	switch {
	case k.RawFlags&unix.IFF_UP == 0:
		k.say(Broken, "link-down", "is down.", "ip link set dev "+quoted(k.Name)+" up")
	case k.RawFlags&unix.IFF_LOWER_UP == 0:
		k.say(Broken, "no-carrier", "has no carrier: the cable is out, or the other end is down.")
	}
	if k.RawFlags&unix.IFF_NOARP != 0 {
		k.say(Broken, "no-arp", "asks for no neighbours (NOARP), so none is reached.", "ip link set dev "+quoted(k.Name)+" arp on")
	}
	if k.MasterIndex != 0 {
		// It is not to be taken out (nomaster): that may take the host off the network.
		if m, err := netlink.LinkByIndex(k.MasterIndex); err == nil {
			name := m.Attrs().Name
			k.say(Broken, "enslaved", "is a port of "+m.Type()+" "+name+", which has the addresses: name that.", "export ONLOAD_INTERFACES="+quoted(name))
		} else {
			k.say(Broken, "enslaved", fmt.Sprintf("is a port of interface %d, which has the addresses.", k.MasterIndex))
		}
	}
	switch k.Type() {
	case "vlan":
		k.say(Slower, "virtual", "is a vlan link: name the interface below it, which carries its packets.")
	case "bridge", "bond", "team", "macvlan", "ipvlan", "tun", "dummy", "wireguard":
		k.say(Slower, "virtual", "is a "+k.Type()+" link: its packets pass the kernel first, so less is gained than on a NIC.")
	}
	if k.MTU < 1280 {
		k.say(Slower, "small-mtu", fmt.Sprintf("has an MTU of %d, too small for IPv6 and slow for all.", k.MTU), fmt.Sprintf("ip link set dev %s mtu 1500", quoted(k.Name)))
	}
}

// program looks for XDP programs of others. libxdp's dispatcher and Cilium's are known by
// their names.
func (k *link) program() {
	e, err := afxdp.ProgramOn(k.Name)
	if e == nil || err != nil {
		return
	}
	whose := fmt.Sprintf("program %d", e.ID)
	switch {
	case e.Name == "onload_steer":
		k.inUse(e)
		return
	case strings.HasPrefix(e.Name, "xdp_dispatcher"):
		whose = "libxdp's dispatcher"
	case strings.HasPrefix(e.Name, "cil_"):
		// No command: without its program the node loses what Cilium does by it.
		k.say(Broken, "foreign-xdp", fmt.Sprintf("has an XDP program already, of Cilium (%s mode), and takes only one: turn that off in Cilium (loadBalancer.acceleration=disabled), or use another interface.", e.Mode))
		return
	case e.Name != "":
		whose = e.Name
	}
	says := fmt.Sprintf("has an XDP program already, of %s (%s mode), and takes only one.", whose, e.Mode)
	remedy := e.Remedy()
	if command, ok := strings.CutPrefix(remedy, `run "`); ok {
		command, _, _ = strings.Cut(command, `"`)
		k.say(Broken, "foreign-xdp", says, command)
		return
	}
	k.say(Broken, "foreign-xdp", says+" To free it: "+remedy+".")
}

// inUse is about an interface that another program of onload's has.
func (k *link) inUse(e *afxdp.ProgramError) {
	switch {
	case e.PID != 0 && e.PID == k.PID: // that is who is asked about
	case k.brokered():
		k.say(Note, "in-use", "is taken by onload already: by the broker, which gives programs links of their own.")
	case e.PID != 0:
		k.say(Broken, "in-use", fmt.Sprintf("is taken by process %d (%s), which goes by onload, and one takes an interface alone: both share it where onload broker has it (docs/broker.md).", e.PID, e.Process))
	default:
		k.say(Broken, "in-use", "is taken by another process that goes by onload, and one takes an interface alone: both share it where onload broker has it (docs/broker.md).")
	}
}

// nativeMTU is the largest MTU of drivers without multi-buffer XDP: a page less what the
// kernel keeps in it.
const nativeMTU = 3498

// driver looks at what the driver makes of XDP.
func (k *link) driver() {
	x := &k.xdp
	switch {
	case x.Kind != "" || !x.Known:
	case !x.Native:
		k.say(Slower, "no-native-xdp", fmt.Sprintf("has a driver (%s) without native XDP: packets take the slower generic way.", x.Driver))
	case !x.ZeroCopy:
		k.say(Note, "copies", fmt.Sprintf("has a driver (%s) without zero-copy: the kernel copies each packet.", x.Driver))
	}
	if x.Kind == "" && x.Known && x.Native && !x.MultiBuffer && k.MTU > nativeMTU {
		k.say(Slower, "large-mtu", fmt.Sprintf("has an MTU of %d, and a driver without multi-buffer XDP, which takes %d at most.", k.MTU, nativeMTU), fmt.Sprintf("ip link set dev %s mtu %d", quoted(k.Name), nativeMTU))
	}
	k.advice()
	if k.Type() == "veth" {
		k.vethQueues()
	}
}

// advice looks at where interrupts run, on which memory, and at how RSS spreads packets
// over the queues.
func (k *link) advice() {
	f := affinity.Facts{Interface: k.Name, Receive: k.xdp.Queues, RSS: k.xdp.RSS, Spins: k.variable("ONLOAD_PROFILE") != "throughput" && k.variable("ONLOAD_SPIN") != "off"}
	for i := range k.xdp.Queues {
		f.Queues = append(f.Queues, affinity.Queue{ID: i, IRQ: -1})
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(k.PID, &set); err == nil {
		for cpu := range len(set) * 64 {
			if set.IsSet(cpu) {
				f.Process = append(f.Process, cpu)
			}
		}
	}
	if ok, err := f.Read(cmp.Or(k.Root, "/")); !ok || err != nil {
		return // a virtual link, or the kernel does not tell
	}
	for _, a := range f.Advise() {
		k.find(Note, "affinity", k.Name, a+".")
	}
}

// vethQueues looks at whether a veth can run XDP natively: its peer may not have more
// transmit queues than it has receive queues (veth_xdp_set).
func (k *link) vethQueues() {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return
	}
	defer e.Close()
	c, err := e.GetChannels(k.Name)
	if err == nil && c.RxCount < c.MaxRx {
		k.say(Slower, "queues", fmt.Sprintf("uses %d of its %d receive queues: if its other end sends by more, its packets come by queue 0 alone, and XDP in native mode is refused.", c.RxCount, c.MaxRx),
			fmt.Sprintf("ethtool -L %s rx %d", quoted(k.Name), c.MaxRx))
	}
}

// disciplines looks at queueing disciplines and at programs of tc.
func (k *link) disciplines() {
	all, err := netlink.QdiscList(k.Link)
	if err != nil {
		return
	}
	for _, q := range all {
		a := q.Attrs()
		switch q.Type() {
		case "noqueue", "mq", "pfifo_fast", "fq_codel", "fq":
		case "clsact", "ingress":
			k.classifiers()
		default:
			if a.Parent == netlink.HANDLE_ROOT {
				k.say(Slower, "qdisc", fmt.Sprintf("has a queueing discipline (%s), which is obeyed: each packet costs a system call. What it limits is unlimited without it.", q.Type()), "tc qdisc del dev "+quoted(k.Name)+" root")
			}
		}
	}
}

func (k *link) classifiers() {
	var names []string
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		all, err := netlink.FilterList(k.Link, parent)
		if err != nil {
			continue
		}
		for _, f := range all {
			name := f.Type()
			if b, ok := f.(*netlink.BpfFilter); ok {
				name = b.Name
			}
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		// The commands only show them: they may be the network of containers, or a firewall.
		k.say(Slower, "tc-filters", fmt.Sprintf("has filters of tc (%s), which do not see accelerated packets.", strings.Join(names, ", ")),
			"tc filter show dev "+quoted(k.Name)+" ingress", "tc filter show dev "+quoted(k.Name)+" egress")
	}
}

// addresses looks at what the kernel would send by the interface.
func (k *link) addresses() {
	all, err := netlink.AddrList(k.Link, netlink.FAMILY_ALL)
	if err != nil {
		return
	}
	four, six := 0, 0
	for _, a := range all {
		switch {
		case a.IP.To4() != nil:
			four++
		case !a.IP.IsLinkLocalUnicast():
			six++
		}
		if a.Flags&unix.IFA_F_DADFAILED != 0 {
			k.say(Broken, "duplicate", fmt.Sprintf("has address %s, which another host has too.", a.IP), fmt.Sprintf("ip address del %s dev %s", a.IPNet, quoted(k.Name)))
		}
	}
	if four+six == 0 && k.MasterIndex == 0 {
		k.say(Broken, "no-address", "has no address: routes lead no packet there.", "ip address add ADDRESS/BITS dev "+quoted(k.Name))
	}
	if k.patient.read("proc/sys/net/ipv6/conf/"+k.Name+"/disable_ipv6") == "1" {
		k.say(Note, "no-ipv6", "has IPv6 turned off.", sysctl("ipv6", k.Name, "disable_ipv6", 0))
	}
}

// offloads looks at what ethtool -k, -g and -c show.
func (k *link) offloads() {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return
	}
	defer e.Close()
	on, err := e.Features(k.Name)
	if err == nil {
		if k.xdp.Kind != "" && !on["tx-tcp-segmentation"] {
			k.say(Slower, "tso-off", "does not segment: over virtual links packets of 64 KiB carry three times as much.", "ethtool -K "+quoted(k.Name)+" tso on")
		}
		if k.xdp.Kind != "" && !on["tx-checksum-ip-generic"] {
			k.say(Slower, "checksum-off", "does not complete checksums: they are computed for each packet.", "ethtool -K "+quoted(k.Name)+" tx on")
		}
		if on["rx-vlan-hw-parse"] && k.xdp.Kind == "" {
			k.say(Note, "vlan-tags", "takes VLAN tags off: frames of VLANs that the host has no link on look like its own.", "ethtool -K "+quoted(k.Name)+" rxvlan off")
		}
	}
	if r, err := e.GetRing(k.Name); err == nil && r.RxPending < r.RxMaxPending && r.RxPending < 1024 {
		k.say(Slower, "small-ring", fmt.Sprintf("has a receive ring of %d, of %d that it may have: bursts are lost.", r.RxPending, r.RxMaxPending), fmt.Sprintf("ethtool -G %s rx %d", quoted(k.Name), min(r.RxMaxPending, 2048)))
	}
	// One of them alone holds nothing back (napi_complete_done). ONLOAD_NAPI=defer sets both.
	dir := "sys/class/net/" + k.Name + "/"
	defers, timeout := k.patient.read(dir+"napi_defer_hard_irqs"), k.patient.read(dir+"gro_flush_timeout")
	if defers != "" && defers != "0" && timeout != "" && timeout != "0" && k.variable("ONLOAD_NAPI") != "defer" {
		k.say(Slower, "napi", fmt.Sprintf("holds interrupts back for %s ns where nobody polls (napi_defer_hard_irqs, gro_flush_timeout).", timeout), "echo 0 > "+quoted("/"+dir+"napi_defer_hard_irqs"))
	}
}
