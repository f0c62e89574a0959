package vmrun

import (
	"errors"
	"fmt"
	"strings"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

// Suites of Debian that guests' kernels come from.
const (
	Stable    = "trixie"           // 6.12
	Backports = "trixie-backports" // 7.x: virtio_net and igb have AF_XDP's zero-copy
)

// A Guest is a machine that tests run in. Its zero value has one processor, 512 MiB,
// no NICs, and the kernel of Stable.
type Guest struct {
	// Links are pairs of NICs that are joined back to back, "NIC+NIC", each of the form
	// MODEL[/DRIVER][,property=value...]. Models are virtio, e1000, e1000e, vmxnet3 and
	// igb. The driver is kernel (the default), vfio, or none. The properties are QEMU's.
	Links []string
	// NICs are those without a peer.
	NICs []string
	// TAP joins the NICs of a link by TAP devices of the host, which carry what a NIC may
	// leave to the next one: checksums and segments. The guest's environment has
	// VMRUN_TAP then.
	TAP bool
	// Queues is the number of pairs of queues that each NIC has, with TAP; 0: 1. The
	// guest's environment has VMRUN_QUEUES then. The NICs are virtio's, and their
	// properties say it too: mq=on,vectors=...
	Queues int
	// CPUs is the number of processors, Memory the MiB.
	CPUs, Memory int
	// Suite is Stable or Backports.
	Suite string
	// IOMMU is intel (the default), virtio or none.
	IOMMU string
	// Modules are modules of the kernel that are loaded besides the NICs' drivers.
	Modules []string
	// Programs are programs of the host, found by PATH, that are put into /bin of the guest
	// with the libraries that they need.
	Programs []string
	// QEMU are further arguments of QEMU.
	QEMU []string
	// Kernel are further arguments of the kernel.
	Kernel []string
	// Run is the pattern of the tests that run, ^TestGuest by default, and Skip that of
	// those among them that do not.
	Run, Skip string
}

func (g Guest) suite() string { return or(g.Suite, Stable) }
func (g Guest) iommu() string { return or(g.IOMMU, "intel") }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A model is a NIC that QEMU has.
type model struct {
	device, module, properties string
}

var models = map[string]model{
	// iommu_platform sends the device's DMA through the guest's IOMMU, which VFIO needs.
	"virtio":  {"virtio-net-pci", "virtio_net", "disable-legacy=on,iommu_platform=on"},
	"e1000":   {"e1000", "e1000", ""},
	"e1000e":  {"e1000e", "e1000e", ""},
	"vmxnet3": {"vmxnet3", "vmxnet3", ""},
	"igb":     {"igb", "igb", ""},
}

// minQEMU is the first release of QEMU that has the model.
func minQEMU(model string) int {
	if model == "igb" {
		return 8
	}
	return 0
}

// nic is a NIC with what only QEMU is told.
type nic struct {
	protocol.NIC
	model      string
	properties string
	hub        int // NICs of one hub hear each other
}

// parse reads Links and NICs.
func (g Guest) parse() ([]nic, error) {
	var all []nic
	add := func(spec string, hub int) error {
		head, properties, _ := strings.Cut(spec, ",")
		name, drv, _ := strings.Cut(head, "/")
		drv = or(drv, "kernel")
		m, ok := models[name]
		if !ok {
			return fmt.Errorf("NIC %q: no such model", spec)
		}
		if drv != "kernel" && drv != "vfio" && drv != "none" {
			return fmt.Errorf("NIC %q: the driver is kernel, vfio or none", spec)
		}
		i := len(all)
		all = append(all, nic{
			NIC: protocol.NIC{
				Model: m.device, Driver: drv,
				Slot: fmt.Sprintf("0000:00:%02x.0", 3+i),
				Port: name != "e1000", // conventional PCI
				MAC:  fmt.Sprintf("52:54:00:12:%02x:%02x", hub, i),
			},
			model:      name,
			properties: strings.Trim(m.properties+","+properties, ","),
			hub:        hub,
		})
		return nil
	}
	for hub, l := range g.Links {
		a, b, ok := strings.Cut(l, "+")
		if !ok {
			return nil, fmt.Errorf("link %q: want NIC+NIC", l)
		}
		if err := errors.Join(add(a, hub), add(b, hub)); err != nil {
			return nil, err
		}
	}
	for i, n := range g.NICs {
		if err := add(n, len(g.Links)+i); err != nil {
			return nil, err
		}
	}
	if len(all) > 24 {
		return nil, errors.New("more NICs than slots")
	}
	return all, nil
}
