// Package vmrun runs tests in QEMU guests, which have NICs and an IOMMU where the
// host has none.
//
// A package's tests for guests have the build tag guest and names that begin with
// TestGuest. An ordinary test of the package calls Test, which compiles them, boots a
// guest with the NICs that it names, and runs them there:
//
//	func TestInGuest(t *testing.T) {
//		vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio+virtio"}})
//	}
//
// The guest has no disk: the kernel's modules, guestinit (its first process) and the
// test binary are its initramfs. Its NICs are joined inside of QEMU and lead nowhere
// else. KVM is not used, so guests run on any host, and slowly.
package vmrun
