package packetdrill

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/onload-go/onload/tcp"
)

// settings are set by options and commands of a script.
type settings struct {
	tolerance      int64   // ns
	percent        float64 // of the time since the event before
	tick           int64   // of the timestamp clock, µs; 0: not checked
	ecrScaled      bool
	strictSegments bool
	mss            int // of the segments that a device put together; 0: unknown
	v6             bool
	local, remote  netip.Addr
	bindPort       uint16
	connectPort    uint16
	define         map[string]string
	mtuSet         bool       // by an option
	bsd            bool       // FreeBSD's suite
	tcp            tcp.Config // of new sockets
	fast           fastOpen
}

// The defaults are packetdrill's. IPv6 packets may be 20 bytes larger, as in its
// own runner, so that segments have the same length. The addresses and the defined
// names are its own, too.
func newSettings(sc *Script, cfg Config) (s settings, err error) {
	s = settings{
		tolerance: 4 * ms, percent: 12.5, bindPort: 8080, connectPort: 8080, v6: cfg.IPv6,
		local: netip.MustParseAddr("192.168.0.1"), remote: netip.MustParseAddr("192.0.2.1"),
		define: map[string]string{"CODE": "host_unreachable", "TFO_COOKIE": publicCookie4},
		fast:   linuxFastOpen,
	}
	for _, o := range sc.Options {
		switch o.Name {
		case "ip_version":
			s.v6 = o.Value == "ipv6"
		case "local_ip", "remote_ip":
			s.v6 = strings.Contains(o.Value, ":")
		}
	}
	s.tcp = tcp.Config{MTU: 1500}
	if s.v6 {
		s.local, s.remote = netip.MustParseAddr("fd3d:a0b:17d6::1"), netip.MustParseAddr("fd3d:fa7b:d17d::1")
		s.tcp.MTU = 1520
		s.define["CODE"], s.define["TFO_COOKIE"] = "address_unreachable", publicCookie6
	}
	for k, v := range cfg.Define {
		s.define[k] = v
	}
	for _, o := range sc.Options {
		if err := s.option(o); err != nil {
			return s, &Error{Line: o.Line, What: err.Error(), Unsupported: o.Name == "udp_encapsulation"}
		}
	}
	if s.local.Is6() != s.v6 || s.remote.Is6() != s.v6 {
		return s, failf("addresses of both versions of IP")
	}
	return s, nil
}

func (s *settings) option(o Option) (err error) {
	if o.Define {
		s.define[o.Name] = o.Value
		return nil
	}
	num := func() (n int64) {
		if n, err = strconv.ParseInt(o.Value, 0, 63); err != nil {
			err = failf("--%s=%s is no number", o.Name, o.Value)
		}
		return n
	}
	switch o.Name {
	case "tolerance_usecs":
		s.tolerance = num() * 1e3
	case "tolerance_percent":
		if s.percent, err = strconv.ParseFloat(o.Value, 64); err != nil {
			err = failf("--%s=%s is no number", o.Name, o.Value)
		}
	case "tcp_ts_tick_usecs":
		s.tick = num()
	case "tcp_ts_ecr_scaled":
		s.ecrScaled = true
	case "strict_segments":
		s.strictSegments = true
	case "mtu":
		s.tcp.MTU, s.mtuSet = int(num()), true
	case "bind_port":
		s.bindPort = uint16(num())
	case "connect_port":
		s.connectPort = uint16(num())
	case "local_ip":
		s.local, err = address(o.Value)
	case "remote_ip":
		s.remote, err = address(o.Value)
	case "mss":
		s.mss = int(num())
	case "ip_version", "gateway_ip", "netmask_ip", "init_scripts", "speed", "code_command", "code_format",
		"code_sockopt", "non_fatal", "send_omit_free":
	default:
		err = failf("option --%s", o.Name)
	}
	return err
}

// headers is the length of the headers of IP and TCP.
func (s *settings) headers() int {
	if s.v6 {
		return 60
	}
	return 40
}

func address(s string) (netip.Addr, error) {
	s, _, _ = strings.Cut(s, "/")
	return netip.ParseAddr(s)
}

// resolve replaces the names in p that options define.
func (s *settings) resolve(p *Packet) (*Packet, error) {
	q := *p
	if d, ok := s.define[p.ICMPCode]; ok {
		q.ICMPCode = d
	}
	q.Opts = append([]TCPOption{}, p.Opts...)
	for i := range q.Opts {
		o := &q.Opts[i]
		if err := s.resolveCookie(o); err != nil {
			return nil, err
		}
		if o.Kind == OptFOExp && !p.In && p.Flags&(flagSYN|flagACK) == flagSYN {
			return nil, unsupportedf("Fast Open's option as an experiment in a SYN of ours")
		}
	}
	return &q, nil
}
