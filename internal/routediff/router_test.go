package routediff

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// advertisement is what a router on a link says of itself (RFC 4861, section 4.2).
type advertisement struct {
	link   string
	router netip.Addr
	hops   uint8
	flags  uint8
	mtu    uint32       // 0: not said
	prefix netip.Prefix // of addresses (section 4.6.2); invalid: none
	route  []byte       // an option of RFC 4191, section 2.3; nil: none
}

// advertised is how long everything of an advertisement holds, in seconds.
const advertised = 1800

// preferences are router preferences as in an advertisement's flags (RFC 4191, 2.1).
var preferences = map[string]uint8{"medium": 0, "high": 0x08, "low": 0x18}

// parseAdvertisement reads what follows the word router.
func parseAdvertisement(words []string) (a advertisement, err error) {
	if len(words) < 2 || len(words)%2 != 0 {
		return a, fmt.Errorf("router LINK ADDR, and words with a value")
	}
	a.link = words[0]
	if a.router, err = netip.ParseAddr(words[1]); err != nil {
		return a, err
	}
	var preference uint8
	var route netip.Prefix
	for i := 2; i < len(words) && err == nil; i += 2 {
		var n uint64
		switch name, value := words[i], words[i+1]; name {
		case "pref":
			a.flags = preferences[value]
		case "hops":
			n, err = strconv.ParseUint(value, 10, 8)
			a.hops = uint8(n)
		case "mtu":
			n, err = strconv.ParseUint(value, 10, 32)
			a.mtu = uint32(n)
		case "prefix":
			a.prefix, err = netip.ParsePrefix(value)
		case "routepref":
			preference = preferences[value]
		case "route":
			route, err = netip.ParsePrefix(value)
		default:
			err = fmt.Errorf("unknown word %q", name)
		}
	}
	if route.IsValid() {
		a.route = append([]byte{byte(route.Bits()), preference, 0, 0, 0, 0}, route.Addr().AsSlice()...)
		binary.BigEndian.PutUint32(a.route[2:], advertised)
	}
	return a, err
}

// frame is the advertisement as it comes to the link's hosts.
func (a *advertisement) frame() ([]byte, error) {
	eth := &layers.Ethernet{
		SrcMAC: net.HardwareAddr{0x02, 0xaa, 0, 0, 0, 0xff}, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1},
		EthernetType: layers.EthernetTypeIPv6,
	}
	h := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6,
		SrcIP: a.router.AsSlice(), DstIP: net.IPv6linklocalallnodes,
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	_ = icmp.SetNetworkLayerForChecksum(h)
	ra := &layers.ICMPv6RouterAdvertisement{HopLimit: a.hops, Flags: a.flags, RouterLifetime: advertised}
	if a.mtu != 0 {
		ra.Options = append(ra.Options, layers.ICMPv6Option{Type: layers.ICMPv6OptMTU, Data: binary.BigEndian.AppendUint32([]byte{0, 0}, a.mtu)})
	}
	if a.prefix.IsValid() {
		const onLink, autonomous = 0x80, 0x40
		b := []byte{byte(a.prefix.Bits()), onLink | autonomous}
		b = binary.BigEndian.AppendUint32(b, advertised) // valid
		b = binary.BigEndian.AppendUint32(b, advertised) // preferred
		b = append(append(b, 0, 0, 0, 0), a.prefix.Addr().AsSlice()...)
		ra.Options = append(ra.Options, layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: b})
	}
	if a.route != nil {
		const routeInformation = 24
		ra.Options = append(ra.Options, layers.ICMPv6Option{Type: routeInformation, Data: a.route})
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, h, icmp, ra)
	return b.Bytes(), err
}

// advertise sends what a router says, and waits until the host has heard it.
func (w *world) advertise(text string) error {
	a, err := parseAdvertisement(strings.Fields(text))
	if err != nil {
		return err
	}
	if _, err := w.host.Netlink().LinkByName(a.link); err != nil {
		return nil // it is left out
	}
	// Routes of all lengths are taken.
	for name, value := range map[string]string{"accept_ra": "1", "accept_ra_rt_info_max_plen": "128"} {
		if err := w.host.Sysctl("net.ipv6.conf."+a.link+"."+name, value); err != nil {
			return err
		}
	}
	b, err := a.frame()
	if err != nil {
		return err
	}
	before, err := w.heard(a.link)
	if err != nil {
		return err
	}
	if err := w.wire.send(a.link, b); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n, err := w.heard(a.link)
		if err != nil {
			return err
		}
		if n > before {
			return w.settle()
		}
	}
	return fmt.Errorf("the host does not hear the router that advertises itself: %s", text)
}

// heard returns how many advertisements have come to the host by a link.
func (w *world) heard(link string) (n int, err error) {
	var text []byte
	err = w.host.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev_snmp6/" + link)
		return err
	})
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == "Icmp6InRouterAdvertisements" {
			n, err = strconv.Atoi(words[1])
		}
	}
	return n, err
}
