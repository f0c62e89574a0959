package afxdp

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
)

// benchEnds opens both ends of a veth pair in mode.
func benchEnds(b *testing.B, mode Mode, mtu int) (p *lab.Pair, x, y *Device) {
	p = lab.NewPair(b, lab.Options{MTU: mtu, Neighbors: true})
	x, y = openAt(b, p.A, Config{Mode: mode}), openAt(b, p.B, Config{Mode: mode})
	for _, d := range []*Device{x, y} {
		must(b, d.AddPort(udp, anyPort(7)))
	}
	return p, x, y
}

// BenchmarkPingPong is the round trip of one frame between two ends that
// spin, each on a thread.
func BenchmarkPingPong(b *testing.B) {
	for _, mode := range modes {
		for _, size := range []int{64, 1500} {
			b.Run(fmt.Sprintf("%v/%dB", mode, size), func(b *testing.B) {
				p, x, y := benchEnds(b, mode, 1500)
				var stop atomic.Bool
				done := make(chan struct{})
				go func() {
					defer close(done)
					runtime.LockOSThread()
					q, ds := y.queues.all()[0], make([]ring.Desc, 64)
					for !stop.Load() {
						for _, d := range ds[:q.RxBatch(ds)] {
							q.TxBatch([]ring.Desc{d})
							y.arena.Release(d.Frame)
							q.Kick()
							q.Reclaim()
							q.Refill()
						}
					}
				}()
				finish := sync.OnceFunc(func() {
					stop.Store(true)
					<-done
				})
				defer finish()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				q, ds := x.queues.all()[0], make([]ring.Desc, 64)
				frame := datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(size-42))
				ping := put(b, x, frame)
				rtt := make([]int64, 0, 1<<20)
				for b.Loop() {
					at := time.Now()
					q.TxBatch(ping)
					q.Kick()
					n := 0
					for n == 0 {
						if n = q.RxBatch(ds); n == 0 && time.Since(at) > 2*time.Second {
							b.Fatal("lost")
						}
					}
					if len(rtt) < cap(rtt) {
						rtt = append(rtt, int64(time.Since(at)))
					}
					for _, d := range ds[:n] {
						x.arena.Free(d.Frame)
					}
					q.Reclaim()
					q.Refill()
				}
				finish()
				slices.Sort(rtt)
				for _, pc := range []struct {
					name string
					at   float64
				}{{"p50-ns", .5}, {"p99-ns", .99}, {"p99.9-ns", .999}} {
					b.ReportMetric(float64(rtt[int(pc.at*float64(len(rtt)))]), pc.name)
				}
			})
		}
	}
}

// BenchmarkPackets is how many frames a second one end sends and the other
// receives.
func BenchmarkPackets(b *testing.B) {
	for _, mode := range modes {
		for _, size := range []int{64, 1514, 9014, 65514} {
			b.Run(fmt.Sprintf("%v/%dB", mode, size), func(b *testing.B) {
				p, x, y := benchEnds(b, mode, 65535)
				var stop atomic.Bool
				got := make(chan uint64, 1)
				go func() {
					runtime.LockOSThread()
					q, ds := y.queues.all()[0], make([]ring.Desc, 256)
					for !stop.Load() {
						for _, d := range ds[:q.RxBatch(ds)] {
							y.arena.Free(d.Frame)
						}
						q.Refill()
					}
					got <- q.Stats().RxPackets
				}()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				q := x.queues.all()[0]
				pkt := put(b, x, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(size-42)))
				start := time.Now()
				const batch = 64
				for b.Loop() {
					for range batch {
						// The same work in every iteration, also when the peer's
						// end is late: b.Loop extrapolates.
						for q.TxSpace() < len(pkt) {
							q.Kick()
							q.Reclaim()
						}
						q.TxBatch(pkt)
					}
					q.Kick()
					q.Reclaim()
				}
				took := time.Since(start).Seconds()
				stop.Store(true)
				n, sent := <-got, q.Stats().TxPackets
				b.ReportMetric(float64(n)/took/1e6, "Mpps")
				b.ReportMetric(float64(n)*float64(size)*8/took/1e9, "Gbit/s")
				b.ReportMetric(float64(sent-n)/float64(sent)*100, "%lost")
			})
		}
	}
}

// BenchmarkFromKernel is what a kernel socket sends us in 64 KiB datagrams
// that it would segment at 1472 bytes (UDP_SEGMENT, as TCP's TSO): in generic
// mode they arrive whole. reorder/s counts numbers that came after a larger.
func BenchmarkFromKernel(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode.String(), func(b *testing.B) {
			p := lab.NewPair(b, lab.Options{Neighbors: true})
			d := openAt(b, p.A, Config{Mode: mode})
			if mode == ModeGeneric {
				must(b, p.A.SetMTU(65535)) // else they are the kernel's
			}
			must(b, d.AddPort(udp, anyPort(7)))
			c, err := p.B.Dial("udp", net.JoinHostPort(p.A.Addr4.String(), "7"))
			must(b, err)
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			must(b, err)
			must(b, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1472)
			}))
			must(b, err)
			var stop atomic.Bool
			var bytes, packets, reordered uint64
			done := make(chan struct{})
			go func() {
				defer close(done)
				q, ds := d.queues.all()[0], make([]ring.Desc, 256)
				last := uint64(0)
				for !stop.Load() {
					n := q.RxBatch(ds)
					first := true
					for _, x := range ds[:n] {
						data := d.arena.Data(x)
						if first {
							// The number is in the first bytes of each 1472.
							if v := binary.BigEndian.Uint64(data[42:]); v < last {
								reordered++
							} else {
								last = v
							}
							packets++
						}
						first = x.Flags&ring.FlagMore == 0
						bytes += uint64(x.Len)
						d.arena.Free(x.Frame)
					}
					q.Refill()
				}
			}()
			const segs = 44
			buf := make([]byte, 1472*segs)
			seq := uint64(0)
			start := time.Now()
			for b.Loop() {
				for i := range segs {
					seq++
					binary.BigEndian.PutUint64(buf[i*1472:], seq)
				}
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			took := time.Since(start).Seconds()
			time.Sleep(5 * time.Millisecond)
			stop.Store(true)
			<-done
			b.ReportMetric(float64(bytes)*8/took/1e9, "Gbit/s")
			b.ReportMetric(float64(bytes)/float64(packets), "B/packet")
			b.ReportMetric(float64(reordered)/took, "reorder/s")
		})
	}
}
