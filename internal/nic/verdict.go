package nic

import (
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/driver/vfio"
)

// VFIO says whether the NIC can be mapped into a process, and if not, why.
func (n NIC) VFIO() (ours string, ok bool) {
	ours, ok = vfio.Drivers[n.ID]
	switch {
	case n.Address == "":
		return "not on a PCI bus", false
	case !ok:
		return "no driver of ours for " + n.ID.String(), false
	case n.Group == "":
		return "no IOMMU", false
	case n.Driver == Driver:
		return ours + ", bound", true
	}
	return ours, true
}

// AFXDP says how well AF_XDP does on the NIC's interfaces. They are the host's.
func (n NIC) AFXDP() string {
	if len(n.Interfaces) == 0 {
		return "no interface"
	}
	s, err := afxdp.SupportOf(n.Interfaces[0])
	switch {
	case err != nil:
		return err.Error()
	case !s.Known:
		return "yes (this kernel does not say how)"
	case s.ZeroCopy:
		return "native, zero-copy"
	case s.Native:
		return "native, copies"
	}
	return "generic, copies"
}
