package afxdp

import (
	"crypto/rand"
	"sync"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"
)

// maxReturns is how many bytes of frames may wait to be given back; what is more is
// lost, as in a full backlog of the kernel.
const maxReturns = 4 << 20

// returns are the frames that the kernel is to have back. A goroutine gives them
// back, which ends when there are no more.
type returns struct {
	from [6]byte // their sender's address in generic mode

	mu      sync.Mutex
	idle    sync.Cond // running became false
	waiting [][]byte
	bytes   int // of waiting, and of what is being given back
	running bool
	closed  bool
	lost    uint64
}

// nobody returns a MAC address that no station has, most likely. It is that of one
// host, since bridges drop frames from a group.
func nobody() (mac [6]byte) {
	const group, local = 1, 2
	_, _ = rand.Read(mac[:]) // never fails since Go 1.24
	mac[0] = mac[0]&^group | local
	return mac
}

// Return implements driver.Returner: a tc program that is attached to nothing puts
// the frame on the interface's receive path. It costs a system call, so the
// caller, which holds the stack lock, leaves it to a goroutine.
func (d *Device) Return(frame []byte) {
	r := &d.returns
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed || r.bytes+len(frame) > maxReturns:
		r.lost++
		return
	case !r.running:
		r.running = true
		go d.giveBack()
	}
	r.waiting = append(r.waiting, frame)
	r.bytes += len(frame)
}

// giveBack gives the kernel the frames that wait, until none does.
func (d *Device) giveBack() {
	r := &d.returns
	ended := false
	err := d.inNS(func() error { // the program looks the interface up by its number
		for frames := r.take(); frames != nil; frames = r.take() {
			for _, f := range frames {
				d.giveBackFrame(f)
				r.done(len(f))
			}
		}
		ended = true
		return nil
	})
	if err != nil {
		d.log.Error("afxdp: fragments of the kernel's are lost", zap.String("interface", d.name), zap.Error(err))
	}
	if !ended { // what comes later has a goroutine of its own
		r.stop()
	}
}

func (d *Device) giveBackFrame(f []byte) {
	if d.caps.Mode == ModeGeneric.String() {
		copy(f[6:], d.returns.from[:]) // so that onload_steer passes it
	}
	status, err := d.objs.OnloadReturn.Run(&ebpf.RunOptions{Data: f})
	if err != nil || status != 0 {
		d.returns.mu.Lock()
		d.returns.lost++
		d.returns.mu.Unlock()
		d.log.Debug("afxdp: a fragment of the kernel's is lost", zap.String("interface", d.name), zap.Uint32("status", status), zap.Error(err))
	}
}

// ReturnErrors implements driver.Returner.
func (d *Device) ReturnErrors() uint64 {
	r := &d.returns
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// done makes room for n bytes more.
func (r *returns) done(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes -= n
}

// take returns all that waits, nil where nothing does: then the goroutine is to
// end.
func (r *returns) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	frames := r.waiting
	r.waiting = nil
	if frames == nil {
		r.running = false
		r.idle.Broadcast()
	}
	return frames
}

// stop forgets what waits.
func (r *returns) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += uint64(len(r.waiting))
	r.waiting, r.bytes, r.running = nil, 0, false
	r.idle.Broadcast()
}

// close waits until the kernel has all that waits.
func (r *returns) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for r.running {
		r.idle.Wait()
	}
}
