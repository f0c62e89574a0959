package interop

import (
	"bytes"
	"os"
	"reflect"
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

// tolerable lists counters that a busy machine can raise: a goroutine that does
// not run for 200 ms looks like a lost packet.
const tolerable = 5

// unrest lists what has gone wrong in a host's TCP so far.
func unrest(h host) map[string]uint64 {
	m := map[string]uint64{}
	switch h := h.(type) {
	case *onload.Engine:
		for _, s := range h.Stats() {
			v := reflect.ValueOf(&s.TCP).Elem()
			for _, name := range trouble {
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
					for _, want := range trouble {
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

// calm fails the test at its end if there was trouble on its link. A thousand connections of 1 MiB at once want more memory than an
// arena has by default: there the windows collide, and losses are no fault.
func calm(t testing.TB, hosts ...host) {
	if testlong.Enabled() && strings.HasPrefix(t.Name(), "TestManyConns") {
		return
	}
	for _, h := range hosts {
		if ns, ok := h.(*lab.NS); ok {
			// On a busy machine even a goroutine that never sleeps may not run for
			// 200 ms, the kernel's least timeout. A real loss takes a second to
			// repair as well. Kernels before 6.11 have no such knob.
			_ = ns.Sysctl("net.ipv4.tcp_rto_min_us", "1000000")
		}
	}
	t.Cleanup(func() {
		for _, h := range hosts {
			for name, n := range unrest(h) {
				switch {
				case n > tolerable:
					t.Errorf("%T: %s %d on a link that loses nothing", h, name, n)
				case n > 0:
					t.Logf("%T: %s %d", h, name, n)
				}
			}
		}
	})
}
