package onload

import (
	"context"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"syscall"
)

// resolve returns the addresses that a TCP or UDP address stands for, at least
// one, in the order to try them.
func resolve(ctx context.Context, r *Resolver, network, address string) ([]net.Addr, error) {
	if address == "" {
		return nil, errMissingAddress
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := r.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	ips, err := resolveHost(ctx, r, network, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]net.Addr, len(ips))
	for i, ip := range ips {
		if isTCP(network) {
			addrs[i] = &net.TCPAddr{IP: ip.IP, Port: port, Zone: ip.Zone}
		} else {
			addrs[i] = &net.UDPAddr{IP: ip.IP, Port: port, Zone: ip.Zone}
		}
	}
	return addrs, nil
}

func resolveHost(ctx context.Context, r *Resolver, network, host string) (ips []net.IPAddr, err error) {
	if host == "" {
		return []net.IPAddr{{}}, nil
	}
	if a, e := netip.ParseAddr(host); e == nil {
		ips = []net.IPAddr{{IP: net.IP(a.AsSlice()).To16(), Zone: a.Zone()}}
		if a == netip.IPv6Unspecified() {
			// As net does: hosts exist that can bind :: but not connect to it.
			ips = append(ips, net.IPAddr{IP: net.IPv4zero})
		}
	} else if ips, err = lookupHost(ctx, r, network, host); err != nil {
		return nil, err
	}
	keep := ips[:0]
	for _, ip := range ips {
		v4 := ip.IP.To4() != nil
		switch network[len(network)-1] {
		case '4':
			if !v4 {
				continue
			}
		case '6':
			if v4 {
				continue
			}
		}
		keep = append(keep, ip)
	}
	if len(keep) == 0 {
		return nil, &net.AddrError{Err: errNoSuitableAddr, Addr: host}
	}
	return keep, nil
}

// lookupHost asks only for the addresses that the network needs, as net does: a
// server that does not answer for the other family must not delay it.
func lookupHost(ctx context.Context, r *Resolver, network, host string) (ips []net.IPAddr, err error) {
	family := network[len(network)-1]
	if family != '4' && family != '6' {
		return r.LookupIPAddr(ctx, host)
	}
	found, err := r.LookupIP(ctx, "ip"+string(family), host)
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		if family == '6' && ip.IsLinkLocalUnicast() {
			return r.LookupIPAddr(ctx, host) // LookupIP loses zones, which /etc/hosts may have
		}
		ips = append(ips, net.IPAddr{IP: ip})
	}
	return ips, nil
}

// matchLocal keeps the addresses that can be reached from local.
func matchLocal(addrs []net.Addr, local net.Addr) ([]net.Addr, error) {
	if local == nil {
		return addrs, nil
	}
	from := ipOf(local)
	var keep []net.Addr
	for _, a := range addrs {
		if a.Network() != local.Network() {
			return nil, &net.AddrError{Err: errMismatched, Addr: local.String()}
		}
		to := ipOf(a)
		if wildcard(from) || wildcard(to) || (from.To4() == nil) == (to.To4() == nil) {
			keep = append(keep, a)
		}
	}
	if len(keep) == 0 {
		return nil, &net.AddrError{Err: errNoSuitableAddr, Addr: local.String()}
	}
	return keep, nil
}

func wildcard(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

func ipOf(a net.Addr) net.IP {
	switch a := a.(type) {
	case *net.TCPAddr:
		if a != nil {
			return a.IP
		}
	case *net.UDPAddr:
		if a != nil {
			return a.IP
		}
	}
	return nil
}

// withoutConnectTrace hides the hooks of net/http/httptrace from the connections
// that the resolver makes.
func withoutConnectTrace(ctx context.Context) context.Context {
	t := httptrace.ContextClientTrace(ctx)
	if t == nil || t.ConnectStart == nil && t.ConnectDone == nil {
		return ctx
	}
	return httptrace.WithClientTrace(untraced{ctx}, &httptrace.ClientTrace{DNSStart: t.DNSStart, DNSDone: t.DNSDone})
}

// untraced is a context without the traces of httptrace and of net, whose key
// is private.
type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	v := u.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok || fmt.Sprintf("%T", v) == "*nettrace.Trace" {
		return nil
	}
	return v
}

// dialNameServer dials one of the name servers that Config.Static names, instead of
// the system's. The resolver dials again for each attempt, and gets the next one.
func (e *Engine) dialNameServer(ctx context.Context, network, _ string) (net.Conn, error) {
	servers := e.in.NameServers()
	if len(servers) == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETDOWN} // the interface was lost
	}
	server := servers[int(e.asked.Add(1)-1)%len(servers)]
	return e.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
}
