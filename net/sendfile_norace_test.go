//go:build !race

package onload_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/onload-go/onload/internal/allocs"
)

// TestSendFileAllocs: the allocations of a transfer do not grow with the file, and
// no byte of it passes through a buffer of ours. (The race detector makes pools
// forget.)
func TestSendFileAllocs(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	f, data := testFile(t, 512<<10)
	in := make([]byte, len(data))
	send := func(size int) float64 {
		return allocs.PerRun(20, func() {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if n, err := c.ReadFrom(io.LimitReader(f, int64(size))); n != int64(size) || err != nil {
				t.Fatal(n, err)
			}
			if _, err := io.ReadFull(s, in[:size]); err != nil {
				t.Fatal(err)
			}
		})
	}
	send(len(data)) // the link makes packets until it has enough
	few, many := send(1000), send(len(data))
	if few > 8 || many > few {
		t.Errorf("%v allocations for 1000 bytes, %v for %d", few, many, len(data))
	}
	if !bytes.Equal(in, data) {
		t.Error("the bytes differ")
	}
}
