package onload

import (
	"context"
	"net"
	"time"
)

// race is one call of Dial. It tries the addresses of a host one after the other,
// and the two families against each other (RFC 8305).
type race struct {
	d       *Dialer
	e       *Engine
	network string
	style   dialStyle
}

// split parts addrs into those of the family of the first, and the others.
func split(addrs []net.Addr) (primaries, fallbacks []net.Addr) {
	first := ipOf(addrs[0]).To4() != nil
	for _, a := range addrs {
		if (ipOf(a).To4() != nil) == first {
			primaries = append(primaries, a)
		} else {
			fallbacks = append(fallbacks, a)
		}
	}
	return primaries, fallbacks
}

// defaultFallbackDelay is net's (RFC 8305 section 5 recommends 250 ms).
const defaultFallbackDelay = 300 * time.Millisecond

// parallel dials both families: the second a little later, or as soon as the first
// has failed. The error is the first family's.
func (r *race) parallel(ctx context.Context, addrs []net.Addr) (Conn, error) {
	primaries, fallbacks := split(addrs)
	if len(fallbacks) == 0 {
		return r.serial(ctx, primaries)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the dial that lost
	type result struct {
		c       Conn
		err     error
		primary bool
	}
	results := make(chan result, 2)
	start := func(addrs []net.Addr, primary bool) {
		c, err := r.serial(ctx, addrs)
		results <- result{c, err, primary}
	}
	go start(primaries, true)
	delay := r.d.FallbackDelay
	if delay == 0 {
		delay = defaultFallbackDelay
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()

	var primaryErr error
	running, started := 1, false
	for {
		select {
		case <-timer.C:
			if !started {
				started = true
				running++
				go start(fallbacks, false)
			}
		case res := <-results:
			running--
			if res.err == nil {
				if running > 0 {
					go func() { // the loser may have won after all
						if late := <-results; late.c != nil {
							_ = late.c.Close()
						}
					}()
				}
				return res.c, nil
			}
			if res.primary {
				primaryErr = res.err
			}
			if !started {
				timer.Reset(0)
			} else if running == 0 {
				return nil, primaryErr
			}
		}
	}
}

// serial tries one address after the other. The error is the first one's.
func (r *race) serial(ctx context.Context, addrs []net.Addr) (Conn, error) {
	var first error
	for i, a := range addrs {
		if err := ctx.Err(); err != nil {
			return nil, &net.OpError{Op: "dial", Net: r.network, Source: r.d.LocalAddr, Addr: a, Err: cause("connect", err)}
		}
		c, err := r.next(ctx, a, len(addrs)-i)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// next dials a within its share of the time that is left for so many
// addresses.
func (r *race) next(ctx context.Context, a net.Addr, left int) (Conn, error) {
	// Less time than this is no fair try. Later addresses get none then.
	const least = 2 * time.Second
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		now := time.Now()
		rest := deadline.Sub(now)
		share := max(rest/time.Duration(left), min(least, rest))
		if share < rest {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, now.Add(share))
			defer cancel()
		}
	}
	switch a := a.(type) {
	case *net.TCPAddr:
		local, _ := r.d.LocalAddr.(*net.TCPAddr)
		if c, err := r.tcp(ctx, local, a); err != nil {
			return nil, err
		} else {
			return c, nil
		}
	default:
		local, _ := r.d.LocalAddr.(*net.UDPAddr)
		if c, err := r.udp(ctx, local, a.(*net.UDPAddr)); err != nil {
			return nil, err
		} else {
			return c, nil
		}
	}
}
