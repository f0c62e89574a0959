package metrics_test

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/onload-go/onload/metrics"
	onload "github.com/onload-go/onload/net"
)

// pair returns two engines on a link in memory.
func pair(t *testing.T) (a, b *onload.Engine) {
	t.Helper()
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{}, onload.MemoryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// exchange connects to a listener of b's at port, and sends text there and back.
func exchange(t *testing.T, a, b *onload.Engine, port, text string) (ln onload.Listener, c, d onload.Conn) {
	t.Helper()
	ln, err := b.Listen("tcp", "10.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = a.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if d, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(text))
	for _, way := range [][2]onload.Conn{{c, d}, {d, c}} {
		_ = way[1].SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(way[0], text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], buf); err != nil || string(buf) != text {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	return ln, c, d
}

// gather returns all series of a registry by name and labels' values.
func gather(t *testing.T, r prometheus.Gatherer) map[string]*dto.Metric {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.Metric{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			all[name] = m
		}
	}
	return all
}

func value(m *dto.Metric) float64 {
	if m.GetCounter() != nil {
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

// Every number of Stats and driver.Stats is there, with its value. Two packets come at
// least: a SYN, and data with the last ACK of the handshake.
func TestCollector(t *testing.T) {
	a, b := pair(t)
	r := prometheus.NewPedanticRegistry() // checks what is collected against Describe
	r.MustRegister(metrics.New(b, metrics.Options{}))
	ln, c, d := exchange(t, a, b, "80", "hello")
	defer ln.Close()
	_, _ = c.Close(), d.Close()

	all := gather(t, r)
	team := b.Snapshot().Teams[0]
	name := team.Interfaces[0]
	for series, least := range map[string]float64{
		"onload_polls_total " + name:                   1,
		"onload_tcp_accepts_total " + name:             1,
		"onload_tcp_passive_opens_total " + name:       1,
		"onload_tcp_in_segs_total " + name:             2,
		"onload_frames " + name:                        float64(team.Stats.Frames),
		"onload_listeners " + name:                     1,
		"onload_queue_rx_packets_total " + name + " 0": 2,
		"onload_interface_accelerated " + name:         1,
		"onload_listener_accepted_total 10.0.0.2:80":   1,
		"onload_listener_backlog 10.0.0.2:80":          4096,
		"onload_listeners_without_series":              0,
	} {
		m := all[series]
		if m == nil || value(m) < least {
			t.Errorf("%s: %v, want at least %v", series, m, least)
		}
	}
	if m := all["onload_listener_waiting 10.0.0.2:80"]; m == nil || value(m) != 0 {
		t.Errorf("waiting: %v", m)
	}
	if n := testutil.CollectAndCount(metrics.New(b, metrics.Options{}), "onload_interface_info"); n != 1 {
		t.Errorf("%d series of onload_interface_info", n)
	}
	counters := 0
	team.Stats.Each(func(counter, help string, _ bool, _ uint64) {
		counters++
		if help == "" {
			t.Errorf("%s has no help", counter)
		}
	})
	if n, err := testutil.GatherAndCount(r); err != nil || n < counters {
		t.Errorf("%d series of %d counters, %v", n, counters, err)
	}
}

// Names and types are as Prometheus asks for.
func TestLint(t *testing.T) {
	_, b := pair(t)
	ln, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.New(b, metrics.Options{}))
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A listener beyond MaxListeners has no series until one that has closes.
func TestMaxListeners(t *testing.T) {
	_, b := pair(t)
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.New(b, metrics.Options{MaxListeners: 2}))
	var lns []onload.Listener
	listen := func(port int) {
		ln, err := b.Listen("tcp", "10.0.0.2:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		lns = append(lns, ln)
	}
	check := func(others float64, ports ...int) {
		t.Helper()
		all := gather(t, r)
		n := 0
		for series := range all {
			if strings.HasPrefix(series, "onload_listener_backlog") {
				n++
			}
		}
		if n != len(ports) || value(all["onload_listeners_without_series"]) != others {
			t.Errorf("%d listeners have series, %v have none", n, all["onload_listeners_without_series"])
		}
		for _, p := range ports {
			if all["onload_listener_backlog 10.0.0.2:"+strconv.Itoa(p)] == nil {
				t.Errorf("port %d has no series", p)
			}
		}
	}
	listen(5002)
	listen(5003)
	check(0, 5002, 5003)
	listen(5001)
	check(1, 5002, 5003)
	_ = lns[0].Close()
	check(0, 5001, 5003)
}

// Vars are JSON, and say the same.
func TestVars(t *testing.T) {
	a, b := pair(t)
	ln, c, d := exchange(t, a, b, "80", "hello")
	defer ln.Close()
	_, _ = c.Close(), d.Close()
	text, err := json.Marshal(metrics.Vars(b)())
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Teams []struct {
			Interfaces []string
			Counters   map[string]uint64
			Queues     map[string]map[string]uint64
		}
		Listeners map[string]struct{ Accepted, Backlog uint64 }
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Teams) != 1 || v.Teams[0].Counters["TCP.PassiveOpens"] != 1 || v.Listeners["10.0.0.2:80"].Accepted != 1 ||
		v.Teams[0].Queues[v.Teams[0].Interfaces[0]+":0"]["RxPackets"] < 2 {
		t.Errorf("%s", text)
	}
}
