package main

import (
	"bufio"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

var soak = flag.Duration("released.soak", 10*time.Second, "how long TestReleasedLoad loads each program")

// TestReleasedLoad: a released program serves a mixed load over AF_XDP, clients that come
// and go and some that are killed among it, without an error or a stall, and holds no
// more goroutines, descriptors and memory afterwards than before. A server that is killed
// itself serves at once when it runs again.
func TestReleasedLoad(t *testing.T) {
	needReleases(t)
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			s := r.serve(t, lab.NewPair(t, lab.Options{}), r.programs(t, false), false)
			s.mixed(t, min(*soak/5, roundTime))
			before := s.holds()
			s.abandon(t) // pools, caches and frames become what they will be
			used := s.holds()
			before.files, before.memory = used.files, used.memory
			s.mixed(t, *soak)
			s.abandon(t)
			s.returnsTo(t, before)
			if !s.client {
				s.server.kill()
				s.start()
				for _, u := range s.uses {
					s.use(t, u, load{users: 4, requests: 40})
				}
			}
		})
	}
}

const (
	roundTime  = 20 * time.Second // of one client's process
	mixedUsers = 8                // of each use
	mixedRenew = 50
)

// mixed uses the server in all ways at once for a time, by one process after the other.
func (s *served) mixed(t *testing.T, d time.Duration) {
	end := time.Now().Add(d)
	var group sync.WaitGroup
	for _, u := range s.uses {
		group.Go(func() {
			var requests, processes, slowest int
			for left := d; left > 0 && !t.Failed(); left = time.Until(end) {
				r := s.use(t, u, load{users: mixedUsers, renew: mixedRenew, time: min(roundTime, left)})
				requests += r.Requests
				processes++
				slowest = max(slowest, r.P99)
				if s.client && r.Seconds > roundTime.Seconds()/2 {
					noMore(t, u.name, r)
				}
			}
			t.Logf("%s: %d requests by %d processes, 99 %% within %d us", u.name, requests, processes, slowest)
		})
	}
	group.Wait()
}

// noMore fails the test if an accelerated client held more in the end than early on. Its
// descriptors do not count: the stack keeps thousands of local ports for the next dials.
func noMore(t *testing.T, name string, r *report) {
	e, l := r.Early, r.Late
	if l.Goroutines > e.Goroutines+2*mixedUsers || l.Memory > e.Memory*3/2+8<<20 {
		t.Errorf("%s: the client held %+v, and %+v in the end", name, e, l)
	}
}

// abandon kills clients of each use in the middle, and with some of their requests.
func (s *served) abandon(t *testing.T) {
	for _, u := range s.uses {
		for i := range 3 {
			c := s.prepare(u, load{users: 64, time: time.Minute})
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i+1) * 200 * time.Millisecond) // nothing depends on what it has done until then
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
}

// holding is what a server's process holds.
type holding struct{ goroutines, files, memory int }

// holds looks at the server; at none of a release that is a client.
func (s *served) holds() (h holding) {
	if s.client {
		return h
	}
	pid := s.server.Process.Pid
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	s.must(err)
	h.files = len(files)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	s.must(err)
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "RssAnon:" {
			h.memory, _ = strconv.Atoi(f[1])
		}
	}
	if s.metrics != "" {
		h.goroutines = s.goroutines()
	}
	return h
}

// goroutines asks the server's own metrics.
func (s *served) goroutines() (n int) {
	t := &http.Transport{DialContext: s.pair.A.DialContext, DisableKeepAlives: true}
	c := http.Client{Transport: t, Timeout: time.Minute}
	r, err := c.Get("http://" + s.metrics)
	s.must(err)
	defer r.Body.Close()
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), "go_goroutines "); ok {
			n, err = strconv.Atoi(value)
			s.must(err)
		}
	}
	if n == 0 {
		s.t.Errorf("%s has no go_goroutines", s.metrics)
	}
	return n
}

// returnsTo waits until the server holds about as much as before: what clients left that
// were killed may last until it times out.
func (s *served) returnsTo(t *testing.T, before holding) {
	const margin, ports = 10, 512 // ports that the stack keeps for the next dials
	var now holding
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if now = s.holds(); now.goroutines <= before.goroutines+margin && now.files <= before.files+ports {
			break
		}
	}
	t.Logf("held %+v before and %+v after (memory in KiB)", before, now)
	if now.goroutines > before.goroutines+margin || now.files > before.files+ports || now.memory > before.memory*3/2+32<<10 {
		t.Errorf("it held %+v, and holds %+v", before, now)
	}
}
