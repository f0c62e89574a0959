package micro

import "testing"

func BenchmarkMemory(b *testing.B) {
	for _, bm := range All() {
		b.Run(bm.Name, bm.Run)
	}
}
