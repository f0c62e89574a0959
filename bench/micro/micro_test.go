package micro

import "testing"

func BenchmarkMemory(b *testing.B) {
	for _, bm := range All() {
		for _, s := range Stacks() {
			b.Run(bm.Name+"/stack="+s.Name, func(b *testing.B) { bm.Run(b, s) })
		}
	}
}
