package virtio

import "testing"

// Features whose conditions do not hold are not taken, whatever the device offers.
func TestChoose(t *testing.T) {
	all := uint64(wanted) | OffloadsAuto.features()
	for name, tt := range map[string]struct{ lacks, without uint64 }{
		"packed":                {0, featEventIdx},
		"split":                 {featPacked, 0},
		"no transmit checksums": {featPacked | featCsum, featHostTSO},
		"one family only":       {featPacked | featHostTSO6 | featGuestTSO4, featHostTSO | featGuestTSO},
		"no receive checksums":  {featPacked | featGuestCsum, featGuestTSO},
		"no merged buffers":     {featPacked | featMergeBuffers, featGuestTSO},
		"no commands":           {featPacked | featControl, featMQ | featRSS},
	} {
		t.Run(name, func(t *testing.T) {
			offered := all &^ tt.lacks
			if got, want := choose(offered, all), offered&^tt.without; got != want {
				t.Errorf("%#x of %#x are taken, want %#x", got, offered, want)
			}
		})
	}
}

// A ring holds a packet of 64 KiB, or such packets are not agreed on.
func TestRoomOf(t *testing.T) {
	for _, tt := range []struct {
		features           uint64
		entries, frameSize int
		holds              bool
	}{
		{featMergeBuffers, 16, 4096, false},
		{featMergeBuffers, 17, 4096, true},
		{featMergeBuffers, 32, 2048, false},
		{featMergeBuffers, 33, 2048, true},
		{featMergeBuffers, 256, 1024, false}, // more buffers than RxBatch takes for one
		{0, 256, 4096, false},
	} {
		if room := roomOf(tt.features, tt.entries, tt.frameSize); room >= largest != tt.holds {
			t.Errorf("%+v: room for %d bytes", tt, room)
		}
	}
}
