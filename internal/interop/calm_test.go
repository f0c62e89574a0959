package interop

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// trouble lists counters that must not grow on a link that loses nothing: each
// counts a long pause, or a packet that somebody dropped.
var trouble = []string{"TCPTimeouts", "TCPSynRetrans", "TCPLostRetransmit", "ListenOverflows", "ListenDrops",
	"TCPAbortOnTimeout", "TCPRcvQDrop", "OfoPruned", "TCPOutNoFrames"}

// needless lists counters that tell afterwards of a timeout that nothing had been
// lost: a host had only not run for a while. The first counts episodes of timeouts
// that were taken back (RFC 5682, RFC 4015). The others count the copies of SYNs
// and SYN-ACKs that arrived beside the first.
var needless = []string{"TCPLossUndo", "TCPSYNChallenge", "TCPACKSkippedSynRecv"}

// tolerable bounds each counter: the last timeout of a connection may be needless
// and nothing tells of it.
const tolerable = 5

// unrest lists what has gone wrong in a host's TCP so far.
func unrest(h host) map[string]uint64 {
	m := map[string]uint64{}
	switch h := h.(type) {
	case *onload.Engine:
		for _, s := range h.Stats() {
			v := reflect.ValueOf(&s.TCP).Elem()
			for _, name := range slices.Concat(trouble, needless) {
				if f := v.FieldByName(name); f.IsValid() {
					m[name] += f.Uint()
				}
			}
			m["TxNoRoute"] += s.TxNoRoute
			m["KickErrors"] += s.KickErrors
			m["RxChecksum"] += s.RxChecksum
			for _, q := range s.Queues {
				v := reflect.ValueOf(q)
				for i := range v.NumField() {
					if name := v.Type().Field(i).Name; strings.Contains(strings.ToLower(name), "drop") {
						m["queue."+name] += v.Field(i).Uint()
					}
				}
			}
		}
	case *lab.NS:
		_ = h.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/netstat")
			if err != nil {
				return err
			}
			lines := bytes.Split(b, []byte("\n"))
			for i := 0; i+1 < len(lines); i += 2 {
				names, values := strings.Fields(string(lines[i])), strings.Fields(string(lines[i+1]))
				for j := range names {
					for _, want := range slices.Concat(trouble, needless) {
						if names[j] == want {
							m[want], _ = strconv.ParseUint(values[j], 10, 64)
						}
					}
				}
			}
			return nil
		})
	}
	return m
}

// forgive takes needless timeouts out of a host's counters, however slow the
// machine is. An episode of timeouts is taken back once. Each timeout but its
// first finds the retransmission before it lost. A SYN that timed out needlessly
// arrives as a copy, or its answer does; came counts those of all hosts.
func forgive(m map[string]uint64, came uint64) {
	less := func(name string, n uint64) { m[name] -= min(n, m[name]) }
	less("TCPTimeouts", m["TCPLossUndo"]+m["TCPLostRetransmit"]+m["TCPSynRetrans"])
	less("TCPLostRetransmit", m["TCPLossUndo"])
	less("TCPSynRetrans", came)
	for _, name := range needless {
		delete(m, name)
	}
}

// copies is how many copies of SYNs and SYN-ACKs have come to a host.
func copies(m map[string]uint64) uint64 { return m["TCPSYNChallenge"] + m["TCPACKSkippedSynRecv"] }

// calm fails the test at its end if there was trouble on its link. A thousand
// connections of 1 MiB at once want more memory than an arena has by default:
// there the windows collide, and losses are no fault.
func calm(t testing.TB, hosts ...host) {
	if testlong.Enabled() && strings.HasPrefix(t.Name(), "TestManyConns") {
		return
	}
	patient(hosts...)
	t.Cleanup(func() { quiet(t, hosts...) })
}

// patient has the kernel's hosts wait longer before they send again.
func patient(hosts ...host) {
	for _, h := range hosts {
		if ns, ok := h.(*lab.NS); ok {
			// Fewer needless timeouts. A real loss takes a second to repair as
			// well. Kernels before 6.11 have no such knob.
			_ = ns.Sysctl("net.ipv4.tcp_rto_min_us", "1000000")
		}
	}
}

// quiet fails the test if there has been trouble so far.
func quiet(t testing.TB, hosts ...host) {
	t.Helper()
	var came uint64
	counters := make([]map[string]uint64, len(hosts))
	for i, h := range hosts {
		counters[i] = unrest(h)
		came += copies(counters[i])
	}
	for i, m := range counters {
		forgive(m, came)
		for name, n := range m {
			switch {
			case n > tolerable:
				t.Errorf("%T: %s %d on a link that loses nothing", hosts[i], name, n)
			case n > 0:
				t.Logf("%T: %s %d", hosts[i], name, n)
			}
		}
	}
}
