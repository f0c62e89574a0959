// Package nic is the machine's network controllers as `onload nic` sees them: which
// driver has them, who shares their IOMMU group, what AF_XDP and VFIO make of them;
// and it binds them to vfio-pci and back.
package nic

// Driver is the kernel's driver that gives devices to processes.
const Driver = "vfio-pci"
