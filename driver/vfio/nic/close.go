package nic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

var errClosed = fmt.Errorf("vfio: device closed: %w", unix.EBADF)

// Close implements driver.Device. The device is stopped before its memory goes.
func (b *Base) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Table.Close()
	err := errors.Join(b.halt(), b.release())
	if b.arena != nil && !b.borrowed && !b.freed {
		b.freed = true
		err = errors.Join(err, b.arena.Close())
	}
	return err
}

// Retire implements driver.Retirer. A device that cannot be stopped keeps its frames.
func (b *Base) Retire() (left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.halted || b.halt() != nil {
		return 0
	}
	for _, q := range b.parts {
		q.salvage()
	}
	return 0
}

// Release implements driver.Retirer.
func (b *Base) Release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.release()
}

// Detach implements driver.Retirer: nothing but Release frees the device.
func (b *Base) Detach() error { return errors.ErrUnsupported }

// halt ends the queues and stops the device. What is gone has stopped. mu is held.
func (b *Base) halt() error {
	if b.halted {
		return nil
	}
	b.halted = true
	for _, q := range b.parts {
		q.Fail(errClosed)
	}
	if b.stop == nil {
		return nil
	}
	if err := b.stop(); !errors.Is(err, driver.ErrGone) {
		return err
	}
	return nil
}

// release gives the device back, all but the arena. mu is held.
func (b *Base) release() error {
	if b.closed {
		return nil
	}
	b.closed = true
	for _, q := range b.parts {
		q.close()
	}
	var errs []error
	if b.changes != nil {
		errs = append(errs, b.changes.Close())
	}
	if b.PCI != nil {
		errs = append(errs, b.PCI.Close())
	}
	if b.Container != nil {
		errs = append(errs, b.Container.Close())
	}
	return errors.Join(errs...)
}

// removed is called when the kernel wants the device back: it is unplugged, or to be
// unbound from vfio-pci.
func (b *Base) removed() {
	b.mu.Lock()
	if b.halted {
		b.mu.Unlock()
		return
	}
	b.gone = fmt.Errorf("vfio: %s: %w: it is unplugged or unbound", b.PCI.Address(), driver.ErrGone)
	b.end(b.gone)
	call := b.onLink
	b.mu.Unlock()
	if call != nil {
		call()
	}
}

// end breaks the queues, and wakes whoever sleeps on them. mu is held.
func (b *Base) end(err error) {
	b.up.Store(false)
	for _, q := range b.parts {
		q.Fail(err)
		q.wake()
	}
}

// Hold names the lists of the frames that the device has: those that it sends and those
// that it receives into, ring.NoFrame where it has none.
func (q *Queue) Hold(sent []ring.Frame, lent ...[]ring.Frame) { q.sent, q.lent = sent, lent }

// salvage takes back the frames that the device had before it was stopped.
func (q *Queue) salvage() {
	for _, fs := range q.lent {
		for i, f := range fs {
			if f != ring.NoFrame {
				fs[i] = ring.NoFrame
				q.Arena.Free(f)
			}
		}
	}
	for i, f := range q.sent {
		if f != ring.NoFrame {
			q.sent[i] = ring.NoFrame
			q.Arena.Completed(f)
		}
	}
}
