package stack

import "math/bits"

// gaps is a histogram of the times to the next packet. It forgets.
type gaps struct {
	count [gapBuckets]uint32
	sum   [gapBuckets]uint64 // of the gaps in the bucket, ns
	total uint32
}

const (
	// Buckets are half octaves, from gapMin up to more than a millisecond.
	gapShift   = 9 // gapMin is 1<<9, 512 ns
	gapBuckets = 26
	gapsMost   = 256 // then all counts are halved
)

// bucket returns the index of the bucket of gap.
func gapBucket(gap int64) int {
	v := uint64(max(gap, 0)) >> (gapShift - 1)
	if v < 2 {
		return 0
	}
	n := bits.Len64(v) - 1 // 1 is the octave from 512 ns on
	i := 2*(n-1) + int(v>>(n-1)&1) + 1
	return min(i, gapBuckets-1)
}

// gapEdge is the upper end of bucket i, in ns.
func gapEdge(i int) int64 {
	if i == 0 {
		return 1 << gapShift
	}
	lower := int64(1) << (gapShift + (i-1)/2)
	if (i-1)%2 == 0 {
		return lower + lower/2
	}
	return 2 * lower
}

func (g *gaps) add(gap int64) {
	i := gapBucket(gap)
	g.count[i]++
	g.sum[i] += uint64(max(gap, 0))
	if g.total++; g.total < gapsMost {
		return
	}
	g.total = 0
	for i := range g.count {
		if g.count[i] > 0 {
			g.sum[i] = g.sum[i] / uint64(g.count[i]) * uint64(g.count[i]/2)
			g.count[i] /= 2
		}
		g.total += g.count[i]
	}
}

// mean returns the cost of a wait with a spin of b ns if a sleep costs price, all
// in ns. A gap in the bucket of b counts as longer than b.
func (g *gaps) mean(b, price int64) float64 {
	longer, spent := int64(g.total), int64(0)
	for i := 0; i < gapBuckets-1 && gapEdge(i) <= b; i++ {
		longer -= int64(g.count[i])
		spent += int64(g.sum[i])
	}
	return float64(spent+longer*(b+price)) / float64(max(g.total, 1))
}

// best returns the spin, in ns, with the least expected cost if a sleep costs
// price.
func (g *gaps) best(price int64) int64 {
	longer := int64(g.total) // gaps that a spin would not outlast
	spent := int64(0)        // by the other gaps
	least, best := longer*price, int64(0)
	for i := range gapBuckets - 1 {
		longer -= int64(g.count[i])
		spent += int64(g.sum[i])
		edge := gapEdge(i)
		if cost := spent + longer*(edge+price); cost < least {
			least, best = cost, edge
		}
	}
	return best
}
