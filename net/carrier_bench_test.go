package onload_test

import "testing"

// BenchmarkReadByte reads data that has arrived a byte at a time: the cost of a
// call beyond the protocol.
func BenchmarkReadByte(b *testing.B) {
	x, y := memoryPair(b)
	client, server := tcpPipe(b, x, y)
	const chunk = 32 << 10
	out, in := make([]byte, chunk), make([]byte, 1)
	left := 0
	for b.Loop() {
		if left == 0 {
			if _, err := server.Write(out); err != nil {
				b.Fatal(err)
			}
			left = chunk
		}
		if _, err := client.Read(in); err != nil {
			b.Fatal(err)
		}
		left--
	}
}
