// Package virtio drives virtio network devices (virtio 1.2, section 5.1) over PCI
// (section 4.1), mapped into the process by VFIO. Section numbers here are those of
// virtio 1.2.
package virtio
