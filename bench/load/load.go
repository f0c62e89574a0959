// Package load holds the workloads, each as a server and a client over any
// network, so that every rung runs the same code.
package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Network is a rung as workloads see it. Connections are net.Conn; packet
// sockets are also Datagrams.
type Network interface {
	Dial(network, addr string) (net.Conn, error)
	Listen(network, addr string) (net.Listener, error)
	ListenPacket(network, addr string) (net.PacketConn, error)
	// Path says how packets travel.
	Path(socket any) string
	// Counters are those of the rung's stack, or nil.
	Counters() any
	Close() error
}

// Serial is a Network whose calls do not let other goroutines run: one
// connection at a time.
type Serial interface{ Serial() }

func serial(n Network) bool {
	_, ok := n.(Serial)
	return ok
}

// Supports reports whether n can run c.
func Supports(n Network, c Case) bool {
	return !serial(n) || c.Workload != Idle && c.Conns <= 1
}

// Datagrams is the part of *net.UDPConn that does not allocate an address for
// each packet.
type Datagrams interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	Close() error
}

// The workloads.
const (
	TCPRTT   = "tcp-rtt"  // ping-pong on one connection
	UDPRTT   = "udp-rtt"  // ping-pong of datagrams
	Bulk     = "bulk"     // one TCP stream
	CRR      = "crr"      // connect, request, response, close
	Requests = "requests" // closed loop over Conns connections
	OpenLoop = "openloop" // Rate requests a second, whatever the answers do
	Packets  = "packets"  // datagrams one way, as fast as they go
	Idle     = "idle"     // memory of Conns connections that do nothing
)

// Workloads lists them in the order of the report.
func Workloads() []string {
	return []string{TCPRTT, UDPRTT, Bulk, CRR, Requests, OpenLoop, Packets, Idle}
}

// Case is a workload with its parameters. Those that do not apply are zero.
type Case struct {
	Workload string
	Size     int  `json:",omitempty"` // bytes of a message or datagram, without headers
	Conns    int  `json:",omitempty"`
	Rate     int  `json:",omitempty"` // a second
	MTU      int  // of the link
	Down     bool `json:",omitempty"` // bulk: from the server to the client
}

// String is the case's name in every output.
func (c Case) String() string {
	var b strings.Builder
	b.WriteString(c.Workload)
	part := func(name string, v int) {
		if v != 0 {
			fmt.Fprintf(&b, "/%s=%d", name, v)
		}
	}
	part("size", c.Size)
	part("conns", c.Conns)
	part("rate", c.Rate)
	if c.Workload == Bulk {
		dir := "up"
		if c.Down {
			dir = "down"
		}
		b.WriteString("/dir=" + dir)
	}
	part("mtu", c.MTU)
	return b.String()
}

// Spec is the task of an end of a case.
type Spec struct {
	Case
	Duration time.Duration // measured, after Warm
	Warm     time.Duration
	Local    string   // own address
	Addrs    []string // of the server, for the client
}

// Sample has an end's measurements. Client and server fill in those that they
// can see; Join makes one of both.
type Sample struct {
	Ops     int64   `json:",omitempty"` // operations in Seconds
	Bytes   int64   `json:",omitempty"` // payload received in Seconds
	Seconds float64 `json:",omitempty"`
	Hist    []byte  `json:",omitempty"` // ns, HdrHistogram V2 compressed
	Sent    int64   `json:",omitempty"` // datagrams handed to the network
	Lost    int64   `json:",omitempty"` // operations without an answer in time
	Unsent  int64   `json:",omitempty"` // operations due that were never started

	AllOps int64 `json:",omitempty"` // operations in all, warm-up included: what the CPU time was spent on
	CPU    CPU   // of the process from the first operation to the last

	HeapPerConn float64 `json:",omitempty"` // Go heap and stacks, bytes
	RSSPerConn  float64 `json:",omitempty"` // resident memory, bytes

	Path     string `json:",omitempty"`
	Counters any    `json:",omitempty"`
}

// ErrUnsupported is for cases that a rung cannot run.
var ErrUnsupported = errors.New("not supported by this rung")

// Server is a running server.
type Server struct {
	Addrs []string
	Path  string
	// Stop ends it and returns its measurements.
	Stop func() (Sample, error)
}

// Serve starts the server of a case.
func Serve(n Network, s *Spec) (*Server, error) {
	if !Supports(n, s.Case) {
		return nil, ErrUnsupported
	}
	switch s.Workload {
	case TCPRTT, CRR, Requests, OpenLoop:
		return serveEcho(n, s)
	case UDPRTT:
		return serveDatagrams(n, s)
	case Bulk:
		return serveBulk(n, s)
	case Packets:
		return servePackets(n, s)
	case Idle:
		return serveIdle(n, s)
	}
	return nil, fmt.Errorf("no workload %q", s.Workload)
}

// Call runs the client of a case.
func Call(n Network, s *Spec) (Sample, error) {
	switch s.Workload {
	case TCPRTT:
		return callTCP(n, s)
	case UDPRTT:
		return callUDP(n, s)
	case Bulk:
		return callBulk(n, s)
	case CRR:
		return callCRR(n, s)
	case Requests:
		return callRequests(n, s)
	case OpenLoop:
		return callOpenLoop(n, s)
	case Packets:
		return callPackets(n, s)
	case Idle:
		return callIdle(n, s)
	}
	return Sample{}, fmt.Errorf("no workload %q", s.Workload)
}
