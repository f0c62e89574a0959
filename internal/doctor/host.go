package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
)

// host looks at the network settings of the namespace.
func (p *patient) host() {
	strict := p.read("proc/sys/net/ipv4/conf/all/rp_filter") == "1"
	for _, name := range p.links {
		if own := p.read("proc/sys/net/ipv4/conf/" + name + "/rp_filter"); own == "1" || strict && own == "0" {
			p.find(Note, "rp-filter", name, name+" takes packets only from sources that its own routes lead to (rp_filter 1): with several interfaces answers may go another way.",
				sysctl("ipv4", name, "rp_filter", 2))
		}
		if p.read("proc/sys/net/ipv4/conf/"+name+"/forwarding") == "1" {
			// No command: containers and virtual machines behind the host need it.
			p.find(Note, "forwarding", name, name+" forwards: a port on a wildcard address is taken from forwarded packets too, so listen on an address of this host.")
		}
	}
	var first, last int
	if n, _ := fmt.Sscan(p.read("proc/sys/net/ipv4/ip_local_port_range"), &first, &last); n == 2 {
		switch {
		case first <= 1024 && last >= 65535:
			p.find(Slower, "port-range", "net.ipv4.ip_local_port_range", "Every port is one that the kernel chooses: none is left by which packets are taken that come by other interfaces.",
				`sysctl -w net.ipv4.ip_local_port_range="32768 60999"`)
		case last-first < 1000:
			p.find(Slower, "few-ports", "net.ipv4.ip_local_port_range", fmt.Sprintf("Only %d ports are there for connections that leave.", last-first+1),
				`sysctl -w net.ipv4.ip_local_port_range="32768 60999"`)
		}
	}
}

// firewall looks for rules that do not see accelerated packets.
func (p *patient) firewall() {
	for _, t := range []string{"ip_tables_names", "ip6_tables_names"} {
		if p.Root == "" && p.read("proc/thread-self/net/"+t) != "" {
			p.find(Slower, "iptables", strings.TrimSuffix(t, "_names"), "Rules of iptables (legacy) do not see accelerated packets: what they drop is not dropped, what they count is not counted.", "iptables-legacy-save")
			break
		}
	}
	out, err := exec.Command("nft", "-j", "list", "ruleset").Output()
	if err != nil {
		return // it is not installed, or may not be asked
	}
	chains, rules, conntrack := countRules(out)
	if rules == 0 {
		return
	}
	says := fmt.Sprintf("nftables has %d rules on packets that come or leave (%s), which do not see accelerated ones.", rules, strings.Join(chains, ", "))
	if conntrack {
		says += " Where connections are accepted by their state (ct state), answers that come by other interfaces are dropped: accept the ports by rules of their own."
	}
	p.find(Slower, "nftables", "nft", says, "nft list ruleset")
}

// countRules counts the rules of base chains on packets of the host's own, and says
// whether one asks for the state of connections.
func countRules(ruleset []byte) (chains []string, rules int, conntrack bool) {
	var all struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook string }
			Rule  *struct {
				Family, Table, Chain string
				Expr                 json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(ruleset, &all); err != nil {
		return nil, 0, false
	}
	hooks := map[string]bool{}
	for _, o := range all.Nftables {
		if c := o.Chain; c != nil {
			switch c.Hook {
			case "ingress", "prerouting", "input", "output", "postrouting":
				hooks[c.Family+" "+c.Table+" "+c.Name] = true
			}
		}
	}
	for _, o := range all.Nftables {
		r := o.Rule
		if r == nil {
			continue
		}
		name := r.Family + " " + r.Table + " " + r.Chain
		if !hooks[name] {
			continue
		}
		rules++
		conntrack = conntrack || bytes.Contains(r.Expr, []byte(`"ct"`))
		if len(chains) == 0 || chains[len(chains)-1] != name {
			chains = append(chains, name)
		}
	}
	return chains, rules, conntrack
}
