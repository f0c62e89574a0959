package virtio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// Close implements driver.Device. The device is stopped before its memory goes.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Table.Close()
	err := errors.Join(d.halt(), d.release())
	if d.arena != nil && !d.borrowed && !d.freed {
		d.freed = true
		err = errors.Join(err, d.arena.Close())
	}
	return err
}

// Retire implements driver.Retirer. A device that cannot be stopped keeps its frames.
func (d *Device) Retire() (left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.halted || d.halt() != nil {
		return 0
	}
	for _, q := range d.queues {
		q.salvage()
	}
	return 0
}

// Release implements driver.Retirer.
func (d *Device) Release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.release()
}

// Detach implements driver.Retirer: nothing but Release frees the device.
func (d *Device) Detach() error { return errors.ErrUnsupported }

// halt ends the queues and stops the device. mu is held.
func (d *Device) halt() error {
	if d.halted {
		return nil
	}
	d.halted = true
	for _, q := range d.queues {
		q.fail(errClosed)
	}
	if d.regs == nil {
		return nil
	}
	return d.regs.reset()
}

// release gives the device back, all but the arena. mu is held.
func (d *Device) release() error {
	if d.closed {
		return nil
	}
	d.closed = true
	for _, q := range d.queues {
		q.closeFD()
	}
	errs := []error{d.closeChanges()}
	if d.pci != nil {
		errs = append(errs, d.pci.Close())
	}
	if d.container != nil {
		errs = append(errs, d.container.Close())
	}
	return errors.Join(errs...)
}

// salvage takes back the frames that the device had before it was stopped.
func (q *Queue) salvage() {
	for id, f := range q.lent {
		if f != ring.NoFrame {
			q.lent[id] = ring.NoFrame
			q.arena.Free(f)
		}
	}
	free := make([]bool, len(q.sent))
	for _, at := range q.slots {
		free[at] = true
	}
	for at := range q.sent {
		if !free[at] {
			q.arena.Completed(q.sent[at].frame)
			q.slots = append(q.slots, uint16(at))
		}
	}
}

func (q *Queue) closeFD() {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	_ = unix.Close(q.fd) // an eventfd has nothing to lose
	q.fd = -1
}

var errClosed = fmt.Errorf("virtio: device closed: %w", unix.EBADF)
