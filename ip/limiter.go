package ip

import "math/rand/v2"

// Limiter bounds how many ICMP errors and resets a host sends. It is a token bucket
// whose depth and prices are drawn at random. With fixed ones, a prober that counts
// the answers to its own probes learns how many others got, and so which ports are
// open (SAD DNS, CVE-2020-25705).
type Limiter struct {
	rng      *rand.ChaCha8
	interval int64 // mean price of a message, ns
	depth    int64 // of the full bucket at most, ns
	credit   int64 // ns
	price    int64 // of the next message; drawn once, since otherwise the cheap ones would win
	last     int64
}

// Init sets the mean rate, and the most messages that follow each other at once.
// seed is secret.
func (l *Limiter) Init(now int64, perSecond, burst int, seed [32]byte) {
	*l = Limiter{rng: rand.NewChaCha8(seed), interval: 1e9 / int64(perSecond), last: now}
	l.depth = l.interval * int64(burst)
	l.credit = l.refill()
	l.price = l.draw()
}

// draw sets a price, between half and one and a half times the mean.
func (l *Limiter) draw() int64 {
	return l.interval/2 + int64(l.rng.Uint64()%uint64(l.interval+1))
}

// refill draws what a full bucket holds: between half its depth and all.
func (l *Limiter) refill() int64 {
	half := l.depth / 2
	return half + int64(l.rng.Uint64()%uint64(half+1))
}

// Allow reports whether a message may be sent now, and counts it.
func (l *Limiter) Allow(now int64) bool {
	l.credit += max(now-l.last, 0)
	l.last = now
	if l.credit > l.depth {
		l.credit = l.refill()
	}
	if l.credit < l.price {
		return false
	}
	l.credit -= l.price
	l.price = l.draw()
	return true
}
