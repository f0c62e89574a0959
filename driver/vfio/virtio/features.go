package virtio

import (
	"errors"
	"fmt"
)

// Feature bits (5.1.3, 6).
const (
	featCsum           = 1 << 0
	featGuestCsum      = 1 << 1
	featMTU            = 1 << 3
	featMAC            = 1 << 5
	featGuestTSO4      = 1 << 7
	featGuestTSO6      = 1 << 8
	featGuestECN       = 1 << 9
	featHostTSO4       = 1 << 11
	featHostTSO6       = 1 << 12
	featHostECN        = 1 << 13
	featMergeBuffers   = 1 << 15
	featStatus         = 1 << 16
	featControl        = 1 << 17
	featMQ             = 1 << 22
	featIndirect       = 1 << 28
	featEventIdx       = 1 << 29
	featVersion1       = 1 << 32
	featAccessPlatform = 1 << 33
	featPacked         = 1 << 34
	featRSS            = 1 << 60

	featGuestTSO = featGuestTSO4 | featGuestTSO6 | featGuestECN
	featHostTSO  = featHostTSO4 | featHostTSO6 | featHostECN

	wanted = featMTU | featMAC | featMergeBuffers | featStatus | featIndirect | featEventIdx |
		featControl | featMQ | featRSS | featVersion1 | featAccessPlatform | featPacked
	required = featMAC | featVersion1 | featAccessPlatform
)

// Offloads says which work is left to the device.
type Offloads int

const (
	// OffloadsAuto uses everything that the device offers; Caps shows it.
	OffloadsAuto Offloads = iota
	// OffloadsOff leaves it nothing: packets are sent frame by frame, with their
	// checksums.
	OffloadsOff
	// OffloadsChecksum leaves it checksums, but sends frame by frame.
	OffloadsChecksum
)

func (o Offloads) features() uint64 {
	switch o {
	case OffloadsOff:
		return 0
	case OffloadsChecksum:
		return featCsum | featGuestCsum
	}
	return featCsum | featGuestCsum | featHostTSO | featGuestTSO
}

// choose returns which of the offered features are taken, without those whose
// conditions do not hold (5.1.3.1). Both directions segment both families, and keep
// CWR in the first segment, or none.
func choose(offered, want uint64) uint64 {
	f := offered & want
	if f&featHostTSO != featHostTSO || f&featCsum == 0 {
		f &^= featHostTSO
	}
	// A buffer that is not merged would have to hold 64 KiB (5.1.6.3.1).
	if f&featGuestTSO != featGuestTSO || f&featGuestCsum == 0 || f&featMergeBuffers == 0 {
		f &^= featGuestTSO
	}
	if f&featControl == 0 {
		f &^= featMQ | featRSS
	}
	// Packed rings switch notifications off and on without it (2.8.10). With it QEMU (7.2
	// to 10.0) loses one: when a packet that waited for its receiver is sent
	// (virtio_net_tx_complete), it names a descriptor and then takes that and others,
	// without naming the next.
	if f&featPacked != 0 {
		f &^= featEventIdx
	}
	return f
}

var errAccessPlatform = errors.New("virtio: the device does not go through the IOMMU (VIRTIO_F_ACCESS_PLATFORM; QEMU: iommu_platform=on), so VFIO could not hold it back")

// negotiate agrees on features (3.1.1, steps 1 to 6).
func (s *structures) negotiate(want uint64) (features uint64, err error) {
	c := s.common
	c.Write8(regStatus, statusAcknowledge)
	c.Write8(regStatus, statusAcknowledge|statusDriver)
	for i := range uint32(2) {
		c.Write32(regDeviceFeatureSelect, i)
		features |= uint64(c.Read32(regDeviceFeature)) << (32 * i)
	}
	features = choose(features, want)
	switch {
	case features&featAccessPlatform == 0:
		err = errAccessPlatform
	case features&required != required:
		err = fmt.Errorf("virtio: the device's features %#x lack some of %#x", features, uint64(required))
	}
	if err != nil {
		c.Write8(regStatus, statusFailed)
		return 0, err
	}
	for i := range uint32(2) {
		c.Write32(regDriverFeatureSelect, i)
		c.Write32(regDriverFeature, uint32(features>>(32*i)))
	}
	c.Write8(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK)
	if c.Read8(regStatus)&statusFeaturesOK == 0 {
		return 0, fmt.Errorf("virtio: the device refuses features %#x", features)
	}
	return features, nil
}

// agree negotiates features with a device that is reset. Packets of 64 KiB are not among
// them where the receive rings do not hold one: the device would wait for buffers that
// never come (QEMU's virtio_net_has_buffers), and all packets behind that one with it.
func (d *Device) agree(c *Config) (err error) {
	want := (wanted | c.Offloads.features()) &^ c.without
	if c.Queues == 1 {
		want &^= featMQ | featRSS
	}
	if d.features, err = d.regs.negotiate(want); err != nil {
		return err
	}
	if d.features&featGuestTSO == 0 || roomOf(d.features, d.regs.entries(0, c.RxRing), d.arena.FrameSize()) >= largest {
		return nil
	}
	if err = d.regs.reset(); err != nil {
		return err
	}
	d.features, err = d.regs.negotiate(want &^ featGuestTSO)
	return err
}

// roomOf is how many bytes of one packet a receive ring holds (5.1.6.3.1).
func roomOf(features uint64, entries, frameSize int) int {
	buffers := 1
	if features&featMergeBuffers != 0 {
		buffers = min(entries, rxFrags)
	}
	return buffers*(frameSize-rxStart) - headerLen
}

// Network configuration (5.1.4). Behind the MTU a field is there only with its feature.
const (
	netMAC       = 0
	netStatus    = 6
	netPairs     = 8
	netMTU       = 10
	netConfigLen = 12
	netRSSKey    = 17 // bytes of a key at most
	netRSSTable  = 18 // entries of a table at most
	netHashTypes = 20
	netRSSLen    = 24

	statusLinkUp = 1
)
