package exception

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

// Device is a NIC whose packets are the kernel's unless the steering names them.
type Device struct {
	inner  driver.Device
	table  *steer.Table
	tap    *os.File
	raw    syscall.RawConn // tap's
	queues []driver.Queue
	caps   driver.Caps

	refused    atomic.Uint64 // packets that the kernel did not take
	forwarding chan struct{} // closed when Forward's goroutine has ended
}

var (
	_ driver.Device   = (*Device)(nil)
	_ driver.Returner = (*Device)(nil)
	_ driver.Retirer  = (*Device)(nil)
)

// New puts tap, as OpenTAP returns it, beside a device that takes all packets. The
// Device owns both, also when New fails.
func New(inner driver.Device, tap *os.File) (*Device, error) {
	d := &Device{inner: inner, table: steer.New(), tap: tap, caps: *inner.Caps()}
	d.caps.MTU = min(d.caps.MTU, MTU(inner))
	var err error
	if d.raw, err = tap.SyscallConn(); err != nil {
		return nil, errors.Join(err, tap.Close(), inner.Close())
	}
	for _, q := range inner.Queues() {
		d.queues = append(d.queues, &queue{Queue: q, d: d})
	}
	return d, nil
}

// ethernet is the most bytes of an Ethernet header, with one VLAN tag.
const ethernet = 18

// MTU is the largest IP packet that the kernel can send by d: it leaves in one frame of
// the arena.
func MTU(d driver.Device) int {
	return min(d.Caps().MTU, d.Arena().FrameSize()-ring.Headroom-ethernet)
}

// Name implements driver.Device.
func (d *Device) Name() string { return d.inner.Name() }

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue { return d.queues }

// Arena implements driver.Device.
func (d *Device) Arena() *ring.Arena { return d.inner.Arena() }

// Caps implements driver.Device.
func (d *Device) Caps() *driver.Caps { return &d.caps }

// AddPort implements driver.Steering.
func (d *Device) AddPort(proto uint8, local netip.AddrPort) error {
	return d.table.AddPort(proto, local)
}

// RemovePort implements driver.Steering.
func (d *Device) RemovePort(proto uint8, local netip.AddrPort) error {
	return d.table.RemovePort(proto, local)
}

// AddFlow implements driver.Steering.
func (d *Device) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	return d.table.AddFlow(proto, local, remote, ours)
}

// RemoveFlow implements driver.Steering.
func (d *Device) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	return d.table.RemoveFlow(proto, local, remote)
}

// Return implements driver.Returner.
func (d *Device) Return(frame []byte) { d.pass([][]byte{make([]byte, headerLen), frame}) }

// ReturnErrors implements driver.Returner.
func (d *Device) ReturnErrors() uint64 { return d.refused.Load() }

// pass gives a packet to the kernel, behind its netHeader. The TAP takes it at once, or
// not at all.
func (d *Device) pass(parts [][]byte) {
	if write(d.raw, parts) != nil {
		d.refused.Add(1)
	}
}

// Retire implements driver.Retirer. A NIC whose device is no Retirer keeps its frames.
func (d *Device) Retire() (left int) {
	if r, ok := d.inner.(driver.Retirer); ok {
		return r.Retire()
	}
	return 0
}

// Release implements driver.Retirer. The interface goes with the NIC, as one of the
// kernel's does. Forward ends.
func (d *Device) Release() error {
	d.table.Close()
	err := d.closeTAP()
	if r, ok := d.inner.(driver.Retirer); ok {
		err = errors.Join(r.Release(), err)
	}
	return err
}

// Detach implements driver.Retirer: nothing but Release frees the NIC.
func (d *Device) Detach() error { return errors.ErrUnsupported }

// Close implements driver.Device. The interface goes, unless it is to persist.
func (d *Device) Close() error {
	d.table.Close()
	return errors.Join(d.inner.Close(), d.closeTAP())
}

// closeTAP closes the TAP, once.
func (d *Device) closeTAP() error {
	if err := d.tap.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
