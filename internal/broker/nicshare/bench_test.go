package nicshare

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/lab"
)

// direct opens sockets on the interface itself, with the same steering: the way that a
// link is compared with.
func direct(b *testing.B, ns *lab.NS, mode afxdp.Mode) *rings {
	b.Helper()
	memfd, err := sealed(frames*frameSize, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	must(b, err)
	b.Cleanup(func() { unix.Close(memfd) })
	g := Grant{RX: -1, TX: -1, Packet: -1}
	b.Cleanup(func() { _ = g.Close() })
	must(b, ns.Do(func() error {
		mem, err := unix.Mmap(memfd, 0, frames*frameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		s, err := afxdp.MakeSockets(mem, frameSize, ringSize, ringSize, ns.Index)
		g.RX, g.TX = s.RX, s.TX
		if err != nil {
			return err
		}
		if g.Packet, _, err = afxdp.MakeSegmenter(ns.Index); err != nil {
			return err
		}
		sh, err := afxdp.LookupShared(ns.If)
		if err != nil {
			return err
		}
		var o struct {
			Program *ebpf.Program `ebpf:"onload_steer"`
			Ports   *ebpf.Map     `ebpf:"ports"`
			Sockets *ebpf.Map     `ebpf:"xsks"`
		}
		load := func(spec *ebpf.CollectionSpec) (*ebpf.Program, error) {
			err := spec.LoadAndAssign(&o, nil)
			return o.Program, err
		}
		var l link.Link
		_, err = sh.Attach(mode, zap.NewNop(), load, func(p *ebpf.Program, flags link.XDPAttachFlags) (err error) {
			l, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: ns.Index, Flags: flags})
			return err
		})
		if err != nil {
			return err
		}
		b.Cleanup(func() { _ = errors.Join(l.Close(), o.Program.Close(), o.Ports.Close(), o.Sockets.Close()) })
		for _, proto := range []uint8{tcp, udp} {
			for _, at := range []uint16{port, peerPort} {
				for _, k := range steer.PortKeys(proto, netip.AddrPortFrom(ns.Addr4, at)) {
					if err := o.Ports.Put(&k, &steer.SteerPortEntry{Owner: steer.OwnerSockets}); err != nil {
						return err
					}
				}
			}
		}
		return o.Sockets.Put(uint32(0), uint32(g.RX))
	}))
	r, err := openRings(g, memfd)
	must(b, err)
	return r
}

// linked opens a link in this process.
func linked(b *testing.B, w *network, port uint16) *rings {
	b.Helper()
	n := w.share(ModeGeneric)
	l, err := n.NewLink(LinkConfig{})
	must(b, err)
	must(b, l.Allow(Port{udp, w.A.Addr4, port}, Port{tcp, w.A.Addr4, port}))
	memfd, err := sealed(frames*frameSize, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	must(b, err)
	b.Cleanup(func() { unix.Close(memfd) })
	g, err := l.Grant(grantConfig(memfd))
	must(b, err)
	b.Cleanup(func() { _ = g.Close() })
	r, err := openRings(g, memfd)
	must(b, err)
	return r
}

// ways are both, each with its own peer, which a goroutine answers by turns. The peers'
// programs are native: the kernel's generic mode passes by packets that tc has
// redirected on this machine.
type ways struct {
	names [2]string
	nets  [2]*network
	own   [2]*rings
	peers [2]*rings
}

func openWays(b *testing.B) *ways {
	w := &ways{names: [2]string{"direct", "link"}}
	for i := range w.nets {
		w.nets[i] = newNetwork(b)
		w.peers[i] = direct(b, w.nets[i].B, afxdp.ModeNative)
	}
	w.own[0], w.own[1] = direct(b, w.nets[0].A, afxdp.ModeGeneric), linked(b, w.nets[1], port)
	return w
}

// echo has the peers send back what comes, with the ends exchanged, until stop.
func (w *ways) echo() (stop func()) {
	var end atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for !end.Load() {
			for _, r := range w.peers {
				for _, f := range r.receive() {
					if !carries(f) {
						continue
					}
					swap(f[0:6], f[6:12])
					swap(f[26:30], f[30:34])
					swap(f[34:36], f[36:38])
					_ = r.send(f)
				}
			}
		}
	})
	return func() { end.Store(true); done.Wait() }
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// block is how much of one way is measured before the other's turn.
const block = 60

// BenchmarkRoundTrip compares a round trip by a link with one by sockets on the
// interface, in blocks by turns. Both ends spin.
func BenchmarkRoundTrip(b *testing.B) {
	w := openWays(b)
	defer w.echo()()
	var took [2][]time.Duration
	for b.Loop() {
		for i, r := range w.own {
			frame := w.nets[i].out(port, false).build(b)
			for range block {
				begun := time.Now()
				must(b, r.send(frame))
				for len(r.receive()) == 0 {
					if time.Since(begun) > patience {
						b.Fatal("no answer: ", w.names[i])
					}
				}
				took[i] = append(took[i], time.Since(begun))
			}
		}
	}
	w.report(b, took)
}

// report gives the medians and their ratio.
func (w *ways) report(b *testing.B, took [2][]time.Duration) {
	var median [2]float64
	for i, t := range took {
		slices.Sort(t)
		median[i] = float64(t[len(t)/2])
		b.ReportMetric(median[i], w.names[i]+"-ns")
		b.ReportMetric(float64(t[len(t)/4]), w.names[i]+"-p25-ns")
	}
	b.ReportMetric(median[1]/median[0], "ratio")
}

// BenchmarkSend compares the time that packets take to leave: all work up to the peer's
// socket is the sender's.
func BenchmarkSend(b *testing.B) {
	for name, size := range map[string]int{"64B": 24, "1500B": 1458} {
		b.Run(name, func(b *testing.B) {
			w := openWays(b)
			var took [2][]time.Duration
			for b.Loop() {
				for i, r := range w.own {
					k := w.nets[i].out(port, false)
					k.data = bytes.Repeat(payload, 61)[:size]
					frame := k.build(b)
					begun := time.Now()
					for range block {
						must(b, r.send(frame))
					}
					took[i] = append(took[i], time.Since(begun)/block)
					w.peers[i].receive()
				}
			}
			w.report(b, took)
		})
	}
}

// BenchmarkSegments compares packets of 64 KiB that the kernel is to segment.
func BenchmarkSegments(b *testing.B) {
	w := openWays(b)
	var took [2][]time.Duration
	for b.Loop() {
		for i, r := range w.own {
			k := w.nets[i].out(port, false)
			k.proto, k.data = tcp, bytes.Repeat(payload, 2600)
			frame := k.build(b)
			hdr := virtioHeader(needsChecksum, gsoTCPv4, 54, 1448, 34, 16)
			begun := time.Now()
			for range block {
				must(b, r.segments(hdr, frame))
			}
			took[i] = append(took[i], time.Since(begun)/block)
			w.peers[i].receive()
		}
	}
	w.report(b, took)
}
