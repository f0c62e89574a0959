//go:build onload && onload_loop && linux

package netglue

import (
	"bytes"
	"context"
	"fmt"
	"internal/onload"
	"internal/runtime/exithook"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/outside"
)

// init has everything that talks to loopback addresses go over a stack.
func init() {
	if off() {
		return
	}
	if err := engine.UseLoop(); err != nil {
		panic(err)
	}
	onload.Hook = &onload.Hooks{Dial: loopDial, Vacate: vacate, Listen: loopListen, Outside: outside.Do}
	if file := os.Getenv(LoopStats); file != "" {
		exithook.Add(exithook.Hook{F: func() { writeStats(file) }, RunOnFailure: true})
	}
}

// LoopStats is the environment variable that names a file. At its exit the process
// writes there what the stack carried: connections that were accepted, and datagrams
// that were received.
const LoopStats = "STDTEST_STATS"

func writeStats(file string) {
	e, err := engine.Default()
	if err != nil {
		return // the file that is missing says it
	}
	var conns, datagrams uint64
	for _, s := range e.Stats() {
		conns += s.TCPAccepts
		datagrams += s.UDPIn
	}
	_ = os.WriteFile(file, fmt.Appendf(nil, "%d %d\n", conns, datagrams), 0o644)
}

// On a real link a packet to a port that is not ours is the kernel's. The loop has no
// kernel behind it, so a port that only the kernel has, as that of another process, is
// dialled by the kernel.
var ours struct {
	sync.Mutex
	ports map[loopPort]int
}

type loopPort struct {
	stream bool
	port   uint16
}

func (p loopPort) count(n int) {
	ours.Lock()
	defer ours.Unlock()
	if ours.ports == nil {
		ours.ports = map[loopPort]int{}
	}
	ours.ports[p] += n
}

func loopDial(ctx context.Context, network string, local, remote netip.AddrPort, control func(syscall.RawConn) error) (onload.Socket, error) {
	p := loopPort{isTCP(network), remote.Port()}
	ours.Lock()
	known := ours.ports[p] > 0
	ours.Unlock()
	if !known && kernelHas(p) {
		return nil, nil
	}
	return dial(ctx, network, local, remote, control)
}

func loopListen(network string, twin syscall.Conn, local netip.AddrPort, dual, hooked, passed bool) (onload.Socket, error) {
	s, err := listen(network, twin, local, dual, hooked, passed)
	if s == nil || err != nil {
		return nil, err
	}
	p := loopPort{isTCP(network), local.Port()}
	p.count(1)
	return &loopBound{Socket: s, port: p}, nil
}

// loopBound is a bound socket that is counted.
type loopBound struct {
	onload.Socket
	port loopPort
	once sync.Once
}

func (b *loopBound) Close() error {
	b.once.Do(func() { b.port.count(-1) })
	return b.Socket.Close()
}

func (b *loopBound) Leave(why string) (int, error) {
	b.once.Do(func() { b.port.count(-1) })
	return b.Socket.Leave(why)
}

// kernelHas reports whether the kernel has a socket that receives at the port.
func kernelHas(p loopPort) bool {
	names, state := []string{"udp", "udp6"}, "07" // TCP_CLOSE: not connected
	if p.stream {
		names, state = []string{"tcp", "tcp6"}, "0A" // TCP_LISTEN
	}
	for _, name := range names {
		text, _ := os.ReadFile("/proc/net/" + name)
		for line := range bytes.Lines(text) {
			f := bytes.Fields(line)
			if len(f) > 3 && bytes.HasSuffix(f[1], fmt.Appendf(nil, ":%04X", p.port)) && string(f[3]) == state {
				return true
			}
		}
	}
	return false
}
