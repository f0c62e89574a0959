package ip

import "golang.org/x/sys/cpu"

// With AVX2, summing and copying 1460 bytes takes a quarter of the time of
// copyWords, summing alone a third of that of sumWords.
var avx2 = cpu.X86.HasAVX2

const block = 32

// sumBlocks sums the front part of b, as far as wide instructions help, and returns
// its length. b has at least minBlock bytes.
func sumBlocks(b []byte) (s uint64, n int) {
	if !avx2 {
		return 0, 0
	}
	n = len(b) &^ (block - 1)
	return sumAVX2(&b[0], n), n
}

// copyBlocks is sumBlocks that also copies to d, which is as long.
func copyBlocks(d, b []byte) (s uint64, n int) {
	if !avx2 {
		return 0, 0
	}
	n = len(b) &^ (block - 1)
	return copyAVX2(&d[0], &b[0], n), n
}

// sumAVX2 sums the n bytes at src as 32-bit words; n is a multiple of block,
// and 128 at least.
//
//go:noescape
func sumAVX2(src *byte, n int) uint64

// copyAVX2 is sumAVX2 that also copies to dst. The areas do not overlap.
//
//go:noescape
func copyAVX2(dst, src *byte, n int) uint64
