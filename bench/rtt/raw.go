package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const (
	rawPort  = 7777
	rawFrame = 64 // bytes, Ethernet header included
)

var modes = map[string]afxdp.Mode{"auto": afxdp.ModeAuto, "native": afxdp.ModeNative, "generic": afxdp.ModeGeneric}

// pinTo keeps every thread of this process on one processor.
func pinTo(cpu int) error {
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return fmt.Errorf("sched_setaffinity: %w", err)
		}
	}
	// As the runtime does where it starts with one processor: threads that
	// take turns on it would wait for the kernel's time slices.
	runtime.GOMAXPROCS(1)
	return nil
}

// rawEnd is one end of the raw ping-pong.
type rawEnd struct {
	dev *afxdp.Device
	q   driver.Queue
	rx  [64]ring.Desc
	hdr ip.Header
}

func openRaw(e *end) (*rawEnd, error) {
	dev, err := afxdp.Open(afxdp.Config{Interface: e.If, Mode: modes[e.Mode]})
	if err != nil {
		return nil, err
	}
	local, remote := netip.MustParseAddr(e.Local), netip.MustParseAddr(e.Remote)
	if err := dev.AddPort(ip.ProtoUDP, netip.AddrPortFrom(local, rawPort)); err != nil {
		return nil, err
	}
	r := &rawEnd{dev: dev, q: dev.Queues()[0]}
	r.hdr.Init(e.LMAC, e.RMAC, 0, local, remote, ip.ProtoUDP, 0, 64)
	r.q.Refill()
	return r, nil
}

// send transmits one frame that carries seq.
func (r *rawEnd) send(seq uint32) error {
	f, ok := r.dev.Arena().Alloc()
	if !ok {
		return fmt.Errorf("no free frame")
	}
	b := r.dev.Arena().Bytes(f)
	hl := r.hdr.Len()
	l4 := rawFrame - hl
	b = b[ring.Headroom:]
	r.hdr.Put(b, l4, 0, 0)
	u := b[hl:]
	binary.BigEndian.PutUint16(u[0:], rawPort)
	binary.BigEndian.PutUint16(u[2:], rawPort)
	binary.BigEndian.PutUint16(u[4:], uint16(l4))
	binary.BigEndian.PutUint16(u[6:], 0)
	binary.BigEndian.PutUint32(u[8:], seq)
	r.q.TxBatch([]ring.Desc{{Frame: f, Off: ring.Headroom, Len: rawFrame}})
	r.dev.Arena().Release(f)
	if err := r.q.Kick(); err != nil {
		return err
	}
	r.q.Reclaim()
	return nil
}

// recv spins for one frame and returns what it carries.
func (r *rawEnd) recv() uint32 {
	for !r.q.RxPending() {
	}
	n := r.q.RxBatch(r.rx[:])
	var seq uint32
	for _, d := range r.rx[:n] {
		b := r.dev.Arena().Data(d)
		seq = binary.BigEndian.Uint32(b[len(b)-rawFrame+r.hdr.Len()+8:])
		r.dev.Arena().Free(d.Frame)
	}
	r.q.Refill()
	return seq
}

func rawServer(e *end) (*result, error) {
	r, err := openRaw(e)
	if err != nil {
		return nil, err
	}
	ready()
	for {
		if err := r.send(r.recv()); err != nil {
			return nil, err
		}
	}
}

func rawClient(e *end) (*result, error) {
	r, err := openRaw(e)
	if err != nil {
		return nil, err
	}
	defer r.dev.Close()
	res, err := measure(e.N, func(i int) error {
		if err := r.send(uint32(i)); err != nil {
			return err
		}
		if got := r.recv(); got != uint32(i) {
			return fmt.Errorf("got frame %d", got)
		}
		return nil
	})
	if res != nil {
		res.Path = "AF_XDP " + r.dev.Caps().Mode
	}
	return res, err
}
