// Package vmxnet3 drives VMware's paravirtual NIC, mapped into the process by VFIO.
// The device has no public specification: names of registers, structures and fields are
// those of Linux's drivers/net/vmxnet3/vmxnet3_defs.h, where the interface is written
// down. This is revision 1 of it, which every device has.
package vmxnet3
