package driver

import "reflect"

// Stats are a Queue's counters.
type Stats struct {
	RxPackets   uint64 `help:"packets received"`
	RxBytes     uint64 `help:"bytes received"`
	TxPackets   uint64 `help:"packets sent"`
	TxBytes     uint64 `help:"bytes sent"`
	Kicks       uint64 `help:"system calls to send"`
	KickErrors  uint64 `help:"system calls to send that failed"`
	RxDropped   uint64 `help:"packets lost because the receive ring was full"`
	RxFillEmpty uint64 `help:"times that there was no free frame to receive into"`
	RxInvalid   uint64 `help:"descriptors to receive into that the kernel refused"`
	TxInvalid   uint64 `help:"descriptors to send that the kernel refused"`
	TxRingFull  uint64 `help:"times that the ring took less than was offered"`
	TxRingNone  uint64 `help:"kicks that found nothing to send"`
	BadDesc     uint64 `help:"descriptors from the device that were out of range or not ours"`
}

// Each calls f for every counter, with its meaning.
func (s *Stats) Each(f func(name, help string, n uint64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		f(t.Name, t.Tag.Get("help"), v.Field(i).Uint())
	}
}
