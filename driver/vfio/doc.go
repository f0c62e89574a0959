// Package vfio maps PCI devices into the process: configuration space, BARs,
// memory that the device reads and writes through the IOMMU, and interrupts as
// eventfds. Source: Documentation/driver-api/vfio.rst and include/uapi/linux/vfio.h
// of Linux.
//
// The device must be bound to the kernel's vfio-pci driver, and so must all that
// is in its IOMMU group, or to no driver. Whoever may open the group's file
// /dev/vfio/N may use the device; what it maps counts against RLIMIT_MEMLOCK.
//
// The kernel takes the device back and resets it when its last descriptor is
// closed, so also when the process dies. Until then the device may write into the
// memory that was mapped for it.
package vfio
