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
