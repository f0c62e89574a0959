package tcp

// Sequence numbers compare modulo 2^32 (RFC 9293 section 3.4): a is before b
// if going forward from a to b is the shorter way.

func seqLT(a, b uint32) bool { return int32(a-b) < 0 }
func seqLE(a, b uint32) bool { return int32(a-b) <= 0 }
func seqGT(a, b uint32) bool { return int32(a-b) > 0 }
func seqGE(a, b uint32) bool { return int32(a-b) >= 0 }

// seqIn reports whether lo <= x < hi.
func seqIn(x, lo, hi uint32) bool { return x-lo < hi-lo }

func seqMax(a, b uint32) uint32 {
	if seqGT(a, b) {
		return a
	}
	return b
}

func seqMin(a, b uint32) uint32 {
	if seqLT(a, b) {
		return a
	}
	return b
}
