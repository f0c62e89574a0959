package routediff

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/onload-go/onload/internal/lab"
)

// hosts is the number of neighbours on each link: .2, .3 and so on.
const hosts = 4

// remotes is the number of destinations beyond the links, of each family.
const remotes = 16

// others are all that can be a next hop, on whichever link.
var others = func() (all []netip.Addr) {
	for net := range 4 {
		for h := 2; h < 2+hosts; h++ {
			all = append(all, neighbor4(net, h), neighbor6(net, h))
		}
	}
	for h := 2; h < 2+hosts; h++ {
		all = append(all, linkLocal(h))
	}
	for i := range remotes {
		all = append(all, remote4(i), remote6(i))
	}
	return all
}()

// mac is the address of one of the others on the n-th link, which it names.
func mac(n int, of netip.Addr) [6]byte {
	return [6]byte{0x02, 0xaa, byte(n), 0, 0, byte(slices.Index(others, of))}
}

// addNeighbors has the others known for good on the n-th link.
func addNeighbors(l *lab.Link, n int) error {
	for _, a := range others {
		if err := l.AddNeighbor(a, mac(n, a)); err != nil {
			return err
		}
	}
	// What a scenario says of a neighbour stays so.
	for _, family := range []string{"ipv4", "ipv6"} {
		if err := l.NS.Sysctl(fmt.Sprintf("net.%s.neigh.%s.base_reachable_time_ms", family, l.If), "3600000"); err != nil {
			return err
		}
	}
	return nil
}

func neighbor4(net, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(net), byte(host)})
}

func neighbor6(net, host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(net), 15: byte(host)})
}

func linkLocal(host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(host)})
}

func remote4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{20, 0, byte(i / 4), byte(1 + i%4)})
}

func remote6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x26, 7: byte(i / 4), 15: byte(1 + i%4)})
}
