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
	err := d.release()
	if d.arena != nil && !d.borrowed && !d.freed {
		d.freed = true
		err = errors.Join(err, d.arena.Close())
	}
	return err
}

// Retire implements driver.Retirer.
func (d *Device) Retire() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	err := d.release()
	for _, q := range d.queues {
		q.salvage()
	}
	return err
}

// Detach implements driver.Retirer: nothing but Retire frees the device.
func (d *Device) Detach() error { return errors.ErrUnsupported }

// release stops the device and gives it back, all but the arena. mu is held.
func (d *Device) release() error {
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for _, q := range d.queues {
		q.fail(errClosed)
	}
	if d.regs != nil {
		errs = append(errs, d.regs.reset())
	}
	for _, q := range d.queues {
		q.closeFD()
	}
	errs = append(errs, d.closeChanges())
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
