package afxdp

import (
	"fmt"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp/bpf"
)

var _ driver.HostFilter = (*Device)(nil)

// SetMACs implements driver.HostFilter.
func (d *Device) SetMACs(macs [][6]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if err := d.objs.Macs.Set(bpf.MACs(macs)); err != nil {
		return fmt.Errorf("afxdp: link-layer addresses: %w", err)
	}
	return nil
}
