package routediff

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A scenario is a host and what is tried on it. Its text has one statement a line:
//
//	link [accelerated] [mtu N]     the next of veth0, veth1...
//	sysctl NAME=VALUE
//	ip [-6] ...                    as a command in the host
//	peer ip ...                    as a command at the other end of the links
//	router LINK ADDR [pref low|high] [hops N] [mtu N] [prefix P] [route P [routepref low|high]]
//	                               a router that advertises itself on a link
//	try KIND to ADDR:PORT port N [from ADDR] [tos N] [mark N] [size N] [device LINK] [by LINK]
//
// to is the peer's address, port and from are the host's own; port 0 is the host's choice,
// and is not compared. A peer that connects
// does so by a link.
//
// Links come first. A statement that fails has no effect, so that others can be
// left out.
type scenario struct {
	links []linkOptions
	setup []string // of sysctl, ip, peer and router, in their order
	tries []try
}

type linkOptions struct {
	accelerated bool
	mtu         int
}

// try is one socket that sends.
type try struct {
	text string
	kind string // of tryKinds
	to   netip.AddrPort
	port uint16 // of ours
	from netip.Addr
	tos  int
	mark int
	size int    // of the datagram
	link string // that the peer's packets come by

	device string // that the socket is bound to (SO_BINDTODEVICE)
}

// parse reads the text of a scenario. Comments begin with #.
func parse(lines []string) (s scenario, err error) {
	for n, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "link":
			var l linkOptions
			l, err = parseLink(words[1:])
			s.links = append(s.links, l)
		case "sysctl", "ip", "peer", "router":
			s.setup = append(s.setup, strings.Join(words, " "))
		case "try":
			var t try
			t, err = parseTry(words[1:])
			t.text = strings.Join(words, " ")
			s.tries = append(s.tries, t)
		default:
			err = fmt.Errorf("unknown statement")
		}
		if err != nil {
			return s, fmt.Errorf("line %d, %q: %w", n+1, line, err)
		}
	}
	return s, nil
}

func parseLink(words []string) (l linkOptions, err error) {
	l.mtu = 1500
	for i := 0; i < len(words) && err == nil; i++ {
		switch {
		case words[i] == "accelerated":
			l.accelerated = true
		case words[i] == "mtu" && i+1 < len(words):
			i++
			l.mtu, err = strconv.Atoi(words[i])
		default:
			err = fmt.Errorf("unknown word %q", words[i])
		}
	}
	return l, err
}

func parseTry(words []string) (t try, err error) {
	if len(words)%2 == 0 {
		return t, fmt.Errorf("a word without a value")
	}
	t.kind = words[0]
	if _, ok := tryKinds[t.kind]; !ok {
		return t, fmt.Errorf("unknown kind %q", t.kind)
	}
	for i := 1; i < len(words) && err == nil; i += 2 {
		value := words[i+1]
		switch words[i] {
		case "to":
			t.to, err = netip.ParseAddrPort(value)
		case "from":
			t.from, err = netip.ParseAddr(value)
		case "port":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 16)
			t.port = uint16(n)
		case "tos":
			t.tos, err = strconv.Atoi(value)
		case "by":
			t.link = value
		case "device":
			t.device = value
		case "size":
			t.size, err = strconv.Atoi(value)
		case "mark":
			t.mark, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown word %q", words[i])
		}
	}
	if err == nil && !t.to.IsValid() {
		err = fmt.Errorf("no destination")
	}
	if err == nil {
		err = t.ready()
	}
	return t, err
}
