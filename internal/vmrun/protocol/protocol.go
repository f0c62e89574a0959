// Package protocol is what package vmrun and the guest's first process tell each
// other.
package protocol

// File is the Config in the guest's image, as JSON.
const File = "/vmrun.json"

// The virtio ports from the guest to the host. Stdout and Stderr carry the program's
// output, Status one line of JSON each time that there is something to say. What is
// written to Monitor is for QEMU's monitor, and its answers can be read there.
const (
	Stdout  = "vmrun.stdout"
	Stderr  = "vmrun.stderr"
	Status  = "vmrun.status"
	Monitor = "vmrun.monitor"
)

// A NIC is an emulated one.
type NIC struct {
	Model  string // QEMU's name, such as virtio-net-pci
	Driver string // "kernel", "vfio" or "none"
	Slot   string // the PCI address of the device, or of its root port
	Port   bool   // behind a root port of its own
	MAC    string
}

// Config says what the guest is to do.
type Config struct {
	Args  []string // the program's
	Env   []string
	Early []string // modules that are loaded before vfio-pci takes NICs, in order
	Late  []string // modules that are loaded after it, in order
	NICs  []NIC
	// Remapping reports whether the IOMMU remaps interrupts.
	Remapping bool
}

// Report is the guest's.
type Report struct {
	// Started is set in the report that precedes the program's start. The other
	// fields are those of the last report.
	Started bool
	Code    int      // exit status; 128 and the number of the signal that killed it
	Err     string   // why there is no exit status
	Kernel  []string // what the kernel said of faults, warnings and bugs
}
