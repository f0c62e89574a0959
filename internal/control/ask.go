package control

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// asker asks the kernel about routes (RTM_GETROUTE). The library's question has no
// ports, protocol or TOS.
type asker struct {
	mu  sync.Mutex
	fd  int // -1: closed
	seq uint32
	buf [8192]byte
}

// askTimeout bounds the wait for an answer that the kernel could not queue.
const askTimeout = time.Second

// open makes the socket, in the namespace of the thread.
func (a *asker) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("netlink", err)
	}
	wait := unix.NsecToTimeval(int64(askTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("setsockopt", err)
	}
	a.fd = fd
	return nil
}

func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd >= 0 {
		_ = unix.Close(a.fd)
		a.fd = -1
	}
}

// ask returns the kernel's route of the flow, whose addresses have no zones. The
// errors are those of a connect(2).
func (a *asker) ask(f Flow, oif int) (fibRoute, error) { return a.exchange(question(f, oif)) }

// exchange sends a question and returns the answer.
func (a *asker) exchange(q *nl.NetlinkRequest) (fibRoute, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return fibRoute{}, os.ErrClosed
	}
	a.seq++
	q.Seq = a.seq
	if err := unix.Sendto(a.fd, q.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fibRoute{}, err
	}
	for {
		n, from, err := unix.Recvfrom(a.fd, a.buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fibRoute{}, err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not from the kernel
		}
		msgs, err := syscall.ParseNetlinkMessage(a.buf[:n])
		if err != nil {
			return fibRoute{}, err
		}
		for _, m := range msgs {
			switch {
			case m.Header.Seq != a.seq: // the answer to a question that timed out
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				return fibRoute{}, syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			case m.Header.Type == unix.RTM_NEWROUTE:
				return parseRoute(m.Data)
			}
		}
	}
}

func question(f Flow, oif int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len = unix.AF_INET, uint8(f.Dst.BitLen())
	if f.Dst.Is6() {
		msg.Family = unix.AF_INET6
	}
	msg.Tos = f.TOS &^ 3
	msg.Flags = unix.RTM_F_LOOKUP_TABLE // for fibRoute.assumed
	req.AddData(msg)
	add := func(typ int, value []byte) { req.AddData(nl.NewRtAttr(typ, value)) }
	add(unix.RTA_DST, f.Dst.AsSlice())
	if f.Src.IsValid() {
		msg.Src_len = uint8(f.Src.BitLen())
		add(unix.RTA_SRC, f.Src.AsSlice())
	}
	if oif != 0 {
		add(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(oif)))
	}
	if f.Proto == 0 {
		return req
	}
	add(unix.RTA_IP_PROTO, []byte{f.Proto})
	// The kernel asks for no route with port 0, which is unknown.
	if f.SrcPort != 0 {
		add(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, f.SrcPort))
	}
	if f.DstPort != 0 {
		add(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, f.DstPort))
	}
	return req
}

// inputQuestion is about a packet to one of our addresses that came by a link. The
// kernel looks at its source for the same packet as it came (inet_rtm_getroute), so it
// also knows which port a rule's sport is. Without a protocol it takes UDP. To rules by
// user, packets that come are root's (flowi6_uid in ip6_route_input); a question about
// IPv6 that names none is nobody's.
func inputQuestion(link int, f Flow) *nl.NetlinkRequest {
	req := question(f, 0)
	req.AddData(nl.NewRtAttr(unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(link))))
	req.AddData(nl.NewRtAttr(unix.RTA_UID, binary.NativeEndian.AppendUint32(nil, 0)))
	return req
}

// parseRoute reads an rtmsg and its attributes.
func parseRoute(b []byte) (r fibRoute, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, syscall.EBADMSG
	}
	r.kind = int(b[7])
	r.assumed = b[4] == unix.RT_TABLE_UNSPEC
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, err
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			r.hop.link = int(binary.NativeEndian.Uint32(a.Value))
		case unix.RTA_GATEWAY:
			r.hop.via, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA: // the family comes before the address
			if len(a.Value) > 2 {
				r.hop.via, _ = netip.AddrFromSlice(a.Value[2:])
			}
		case unix.RTA_PREFSRC:
			r.src, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_METRICS:
			if err := r.parseMetrics(a.Value); err != nil {
				return r, err
			}
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo
			if len(a.Value) >= 12 {
				r.expires = int32(binary.NativeEndian.Uint32(a.Value[8:]))
			}
		}
	}
	return r, nil
}

func (r *fibRoute) parseMetrics(b []byte) error {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return err
	}
	var lock, rtoMin int
	for _, a := range attrs {
		if a.Attr.Type == unix.RTAX_CC_ALGO {
			r.Congestion = unix.ByteSliceToString(a.Value)
			continue
		}
		if len(a.Value) != 4 {
			continue
		}
		n := int(binary.NativeEndian.Uint32(a.Value))
		switch a.Attr.Type {
		case unix.RTAX_MTU:
			r.mtu = n
		case unix.RTAX_LOCK:
			lock = n
		case unix.RTAX_WINDOW:
			r.Window = n
		case unix.RTAX_ADVMSS:
			r.AdvMSS = n
		case unix.RTAX_HOPLIMIT:
			r.HopLimit = n
		case unix.RTAX_INITCWND:
			r.InitCwnd = n
		case unix.RTAX_INITRWND:
			r.InitRwnd = n
		case unix.RTAX_FEATURES:
			r.ECN = n&unix.RTAX_FEATURE_ECN != 0
		case unix.RTAX_QUICKACK:
			r.QuickAck = n != 0
		case unix.RTAX_RTO_MIN:
			rtoMin = n // ms
		}
	}
	r.MTULocked = lock&(1<<unix.RTAX_MTU) != 0
	if lock&(1<<unix.RTAX_RTO_MIN) != 0 { // the kernel heeds only a locked one
		r.RTOMin = time.Duration(rtoMin) * time.Millisecond
	}
	return nil
}

// routeCache keeps the kernel's answers until the view changes, but not for
// long: some sysctls alter them without a notice.
type routeCache struct {
	mu      sync.Mutex
	view    *view
	since   time.Time
	answers map[routeQuery]routeAnswer
}

// routeQuery is the key of a cached answer.
type routeQuery struct {
	Flow
	oif int
}

type routeAnswer struct {
	route Route
	err   error
}

const (
	// cacheLimit bounds the answers kept. Beyond it the cache is emptied.
	cacheLimit = 4096
	// cacheTime is how old they may be.
	cacheTime = time.Second
)

func (c *routeCache) init() { c.answers = map[routeQuery]routeAnswer{} }

func (c *routeCache) get(v *view, q routeQuery, ask func() (Route, error)) (Route, error) {
	now := time.Now()
	c.mu.Lock()
	if c.view != v || len(c.answers) >= cacheLimit || now.Sub(c.since) >= cacheTime {
		c.view, c.since = v, now
		clear(c.answers)
	}
	a, ok := c.answers[q]
	c.mu.Unlock()
	if ok {
		return a.route, a.err
	}
	a.route, a.err = ask()
	c.mu.Lock()
	// An answer from before a change must not outlive it.
	if c.view == v {
		c.answers[q] = a
	}
	c.mu.Unlock()
	return a.route, a.err
}

// forget drops the answers.
func (c *routeCache) forget() {
	c.mu.Lock()
	clear(c.answers)
	c.mu.Unlock()
}

// Route implements Network.
func (k *Kernel) Route(f Flow) (Route, error) {
	v := k.view.Load()
	r, err := k.find(v, f)
	if l := v.links[r.Link]; err == nil && l != nil {
		if r.HopLimit == 0 {
			r.HopLimit = k.settings.hopLimit(f.Dst, l.Name)
		}
		if r.linkMTU && f.Dst.Is6() {
			if mtu := k.settings.mtu6(l.Name); mtu > 0 {
				r.MTU = min(r.MTU, mtu) // ip6_mtu
			}
		}
	}
	r.linkMTU = false // it is said
	return r, err
}

// find finds the route of a flow. The snapshot answers where it cannot be wrong,
// else the kernel.
func (k *Kernel) find(v *view, f Flow) (Route, error) {
	f, oif, err := v.bind(f)
	if err != nil {
		return Route{}, err
	}
	r, err := v.route(f, oif)
	// The choice among IPv6 addresses (RFC 6724) depends on labels and other
	// settings that the snapshot does not have.
	if err != errAsk && (err != nil || f.Dst.Is4() || f.Src.IsValid() || r.Local) {
		return r, err
	}
	if !v.ports[family(f.Dst)] {
		f.SrcPort, f.DstPort = 0, 0
	}
	f.TOS &^= 3
	return k.cache.get(v, routeQuery{f, oif}, func() (Route, error) {
		r, err := k.routes.ask(f, oif)
		if err != nil {
			return Route{}, err
		}
		if _, ok := v.links[r.hop.link]; !ok {
			return Route{}, syscall.ENETUNREACH
		}
		k.expires(r.expires)
		out := v.answer(&r, f.Dst, f.Src)
		out.SrcMatters = v.ask[family(f.Dst)] || v.partial[family(f.Dst)]
		return out, nil
	})
}

// sysctls are the settings that the mirror depends on. Their files are read again
// and again, since the kernel announces no change.
type sysctls struct{ files [2][2]*os.File }

// Names of the settings, for each family.
var multipathSettings = [2][2]string{
	inet4: {"/proc/sys/net/ipv4/fib_multipath_hash_policy", "/proc/sys/net/ipv4/fib_multipath_hash_fields"},
	inet6: {"/proc/sys/net/ipv6/fib_multipath_hash_policy", "/proc/sys/net/ipv6/fib_multipath_hash_fields"},
}

// open opens the files, inside the namespace. A kernel without multipath routes
// has none.
func (s *sysctls) open() {
	for f := range multipathSettings {
		for i, name := range multipathSettings[f] {
			s.files[f][i], _ = os.Open(name)
		}
	}
}

func (s *sysctls) close() {
	for f := range s.files {
		for _, file := range s.files[f] {
			_ = file.Close() // of nil too
		}
	}
}

// hashPorts reports whether multipath routes of a family choose by ports (Linux's
// ip-sysctl.rst, fib_multipath_hash_policy).
func (s *sysctls) hashPorts(f int) bool {
	const outerPorts = 0x10 | 0x20 // of fib_multipath_hash_fields
	switch s.read(f, 0) {
	case 1:
		return true
	case 3:
		return s.read(f, 1)&outerPorts != 0
	}
	return false
}

func (s *sysctls) read(f, i int) (n int) {
	var b [16]byte
	size, _ := s.files[f][i].ReadAt(b[:], 0)
	for _, c := range b[:size] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}
