// Package micro holds the benchmarks that need no network: two stacks joined
// by a link in memory, in one process. The same code runs on onload and on
// gVisor's netstack.
package micro

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/bench/gvisor"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/bench/rung"
	onload "github.com/onload-go/onload/net"
)

const server = "10.0.0.2:80"

// Network is a load.Network that dials from a chosen address.
type Network interface {
	load.Network
	DialFrom(local netip.Addr, addr string) (net.Conn, error)
}

// Stack makes two networks: x at 10.0.0.1 and the other clients' addresses, y
// at 10.0.0.2.
type Stack struct {
	Name string
	Pair func(mtu int) (x, y Network, err error)
}

// clients are x's addresses: each has ports for so many connections only.
var clients = func() (as []netip.Addr) {
	for i := range 9 {
		if a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}); i != 1 {
			as = append(as, a)
		}
	}
	return as
}()

// Stacks are those compared.
func Stacks() []Stack {
	return []Stack{{"onload", onloadPair}, {"gvisor", gvisorPair}}
}

// onloadPair has the default profile: both ends are in one process and wait
// for each other; two that spin long would fight for the processors.
func onloadPair(mtu int) (Network, Network, error) {
	return pairOf(mtu, onload.Config{Profile: onload.Balanced})
}

func pairOf(mtu int, cfg onload.Config) (Network, Network, error) {
	c := onload.MemoryConfig{MTU: mtu, Config: cfg}
	d := c
	for _, a := range clients {
		c.Addrs = append(c.Addrs, netip.PrefixFrom(a, 24))
	}
	x, y, err := onload.NewMemoryPair(c, d)
	if err != nil {
		return nil, nil, err
	}
	return rung.Engine{Engine: x}, rung.Engine{Engine: y}, nil
}

func gvisorPair(mtu int) (Network, Network, error) {
	b := netip.MustParseAddr("10.0.0.2")
	x, y, err := gvisor.Pair(gvisor.Host{Local: clients[0], Also: clients[1:], Remote: b}, gvisor.Host{Local: b, Remote: clients[0]}, mtu)
	if err != nil {
		return nil, nil, err
	}
	return x, y, nil
}

// Benchmark is one of them.
type Benchmark struct {
	Name string
	Run  func(*testing.B, Stack)
}

// The names in targets.
const (
	OneGoroutine = "tcp-rtt/size=1/goroutines=1"
	Blocking     = "tcp-rtt/size=1/goroutines=2"
	BulkOneCore  = "bulk/mtu=1500/cpus=1"
	ConnectClose = "connect-close"
	IdleConn     = "idle"
)

// All lists them.
func All() []Benchmark {
	return []Benchmark{
		{OneGoroutine, func(b *testing.B, s Stack) { alone(b, s, 1) }},
		{Blocking, func(b *testing.B, s Stack) { tcpRTT(b, s, 1) }},
		{"tcp-rtt/size=1024/goroutines=2", func(b *testing.B, s Stack) { tcpRTT(b, s, 1024) }},
		{"udp-rtt/size=1/goroutines=1", func(b *testing.B, s Stack) { udpAlone(b, s, 1) }},
		{"udp-rtt/size=1/goroutines=2", func(b *testing.B, s Stack) { udpRTT(b, s, 1) }},
		{BulkOneCore, func(b *testing.B, s Stack) { bulk(b, s, 1500, 1) }},
		{"bulk/mtu=1500/cpus=2", func(b *testing.B, s Stack) { bulk(b, s, 1500, 2) }},
		{"bulk/mtu=9000/cpus=2", func(b *testing.B, s Stack) { bulk(b, s, 9000, 2) }},
		{ConnectClose, connectClose},
	}
}

// Run runs all on all stacks for about d each, in every round, and measures
// the memory of idle connections once.
func Run(d time.Duration, rounds, conns int, progress func(string)) ([]report.MicroRun, error) {
	if flag.Lookup("test.benchtime") == nil {
		testing.Init()
	}
	if err := flag.Set("test.benchtime", d.String()); err != nil {
		return nil, err
	}
	var ms []report.MicroRun
	for round := range rounds {
		for _, bm := range All() {
			for _, s := range Stacks() {
				progress(fmt.Sprintf("round %d/%d  %s on %s", round+1, rounds, bm.Name, s.Name))
				res := testing.Benchmark(func(b *testing.B) { bm.Run(b, s) })
				if res.N == 0 {
					return ms, fmt.Errorf("%s on %s failed", bm.Name, s.Name)
				}
				m := report.MicroRun{Name: bm.Name, Stack: s.Name, Round: round, N: res.N,
					NsPerOp:     float64(res.T.Nanoseconds()) / float64(res.N),
					AllocsPerOp: res.AllocsPerOp(), BytesPerOp: res.AllocedBytesPerOp()}
				if res.Bytes > 0 {
					m.GbitPerS = float64(res.Bytes) * float64(res.N) * 8 / 1e9 / res.T.Seconds()
				}
				ms = append(ms, m)
			}
		}
	}
	for _, s := range Stacks() {
		progress(fmt.Sprintf("%d idle connections on %s", conns, s.Name))
		took, bytes, err := Idle(s, conns)
		if err != nil {
			return ms, fmt.Errorf("%d idle connections on %s: %w", conns, s.Name, err)
		}
		ms = append(ms, report.MicroRun{Name: IdleConn, Stack: s.Name, N: conns,
			NsPerOp: float64(took.Nanoseconds()) / float64(conns), BytesPerConn: bytes})
	}
	return ms, nil
}

// Steps is how often Run reports progress.
func Steps(rounds int) int { return (rounds*len(All()) + 1) * len(Stacks()) }
