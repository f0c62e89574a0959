package afxdp

import (
	"fmt"

	"github.com/onload-go/onload/driver"
)

var _ driver.HostFilter = (*Device)(nil)

// SetMACs implements driver.HostFilter.
func (d *Device) SetMACs(macs [][6]byte) error {
	var words [8]uint64 // of the program: as they are in memory
	if len(macs) > 0 && len(macs) <= len(words) {
		for i := range words {
			m := macs[min(i, len(macs)-1)] // no word is free for the address 0
			words[i] = native.Uint64([]byte{m[0], m[1], m[2], m[3], m[4], m[5], 0, 0})
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if err := d.objs.Macs.Set(words); err != nil {
		return fmt.Errorf("afxdp: link-layer addresses: %w", err)
	}
	return nil
}
