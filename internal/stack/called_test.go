package stack

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
)

// newCalledPair is newPair where whoever sends runs the receiver's turn. devs are the
// ends of the link.
func newCalledPair(t *testing.T, spin time.Duration, link sim.LinkConfig) (a, b *Stack, devs []*sim.Device) {
	a, b = newPair(t, pairOptions{link: link, config: func(c *Config) {
		c.Called, c.Spin = true, spin
		devs = append(devs, c.Links[0].Steering.(*sim.Device))
	}})
	return a, b, devs
}

// Requests and answers, bulk data and the end of a connection pass without a
// descriptor being written, also where goroutines never spin and where the link
// delays packets.
func TestCalled(t *testing.T) {
	for name, o := range map[string]struct {
		spin time.Duration
		link sim.LinkConfig
	}{
		"spinning": {},
		"parked":   {spin: -1},
		"delayed":  {link: sim.LinkConfig{AtoB: sim.Faults{Delay: 200 * time.Microsecond}}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, devs := newCalledPair(t, o.spin, o.link)
			c, s := connect(t, a, b, addrB)
			echoed := make(chan error, 1)
			go func() {
				buf := make([]byte, 4096)
				for {
					n, err := s.Read(buf)
					if err == nil {
						_, err = s.Write(buf[:n])
					}
					if err != nil {
						echoed <- err
						return
					}
				}
			}()
			for i := range 100 {
				p := []byte{byte(i)}
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, p); err != nil || p[0] != byte(i) {
					t.Fatal(p, err)
				}
			}
			sent := bytes.Repeat([]byte("called"), 100_000)
			go func() {
				if _, err := c.Write(sent); err != nil {
					t.Error(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
			}()
			got, err := io.ReadAll(io.LimitReader(c, int64(len(sent))))
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes of %d came back: %v", len(got), len(sent), err)
			}
			if err := <-echoed; err != io.EOF {
				t.Errorf("the end: %v", err)
			}
			for _, d := range devs {
				if n := d.Wakeups(); n > 0 {
					t.Errorf("%s: %d descriptors were written", d.Name(), n)
				}
			}
		})
	}
}

// A goroutine that waits in vain again and again spins rarely, until a spin finds
// something.
func TestCalledBudget(t *testing.T) {
	s := &Stack{}
	s.waits.spin = 1000
	for range vainMost {
		if s.calledBudget() == 0 {
			t.Error("no spin though few were in vain")
		}
		s.waits.noteSpin(false)
	}
	spins := 0
	for range 10 * vainEvery {
		if s.calledBudget() > 0 {
			spins++
			s.waits.noteSpin(false)
		}
	}
	if spins < 9 || spins > 11 {
		t.Errorf("%d of %d waits spun", spins, 10*vainEvery)
	}
	s.waits.noteSpin(true)
	if s.calledBudget() == 0 {
		t.Error("no spin after one that found a packet")
	}
}

// Queues that cannot call are refused.
func TestCalledNeedsCallers(t *testing.T) {
	_, _, err := makePair(pairOptions{config: func(c *Config) {
		c.Called = true
		c.Links[0].Queues[0] = mute{c.Links[0].Queues[0]}
	}})
	if err == nil {
		t.Error("taken")
	}
}

// mute is a queue that calls nobody.
type mute struct{ driver.Queue }
