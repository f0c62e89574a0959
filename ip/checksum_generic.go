//go:build !amd64

package ip

// sumBlocks sums the front part of b, as far as wide instructions help, and returns
// its length: here none.
func sumBlocks([]byte) (s uint64, n int) { return 0, 0 }

// copyBlocks is sumBlocks with a copy; here it copies nothing.
func copyBlocks(_, _ []byte) (s uint64, n int) { return 0, 0 }
