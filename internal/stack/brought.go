package stack

import (
	"errors"
	"sync"

	"github.com/onload-go/onload/driver"
)

// brought has how to close the devices that Relink brought. The stacks of a team have
// one in common.
type brought struct {
	mu      sync.Mutex // leaf
	closers map[driver.Steering]func() error
}

func (b *brought) add(device driver.Steering, closer func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closers == nil {
		b.closers = map[driver.Steering]func() error{}
	}
	b.closers[device] = closer
}

// close closes a device, if it is one of them.
func (b *brought) close(device driver.Steering) error {
	b.mu.Lock()
	c := b.closers[device]
	delete(b.closers, device)
	b.mu.Unlock()
	if c == nil {
		return nil
	}
	return c()
}

func (b *brought) closeAll() error {
	b.mu.Lock()
	all := b.closers
	b.closers = nil
	b.mu.Unlock()
	var errs []error
	for _, c := range all {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
