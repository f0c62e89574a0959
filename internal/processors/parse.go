package processors

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

func parseInt(text []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}

// parseMax reads cpu.max of cgroup v2: QUOTA PERIOD in microseconds, where
// QUOTA is "max" for none. It is not ok then.
func parseMax(text []byte) (quota, period int64, ok bool) {
	a, b, _ := bytes.Cut(bytes.TrimSpace(text), []byte(" "))
	quota, okQuota := parseInt(a)
	period, okPeriod := parseInt(b)
	if !okQuota || !okPeriod || quota <= 0 || period <= 0 {
		return 0, 0, false
	}
	return quota, period, true
}

// parseStat reads cpu.stat: lines of KEY VALUE. The time is throttled_usec in
// v2, throttled_time in nanoseconds in v1.
func parseStat(text []byte) (t Throttled) {
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(" "))
		n, ok := parseInt(value)
		if !ok || n < 0 {
			continue
		}
		switch string(key) {
		case "nr_periods":
			t.Periods = uint64(n)
		case "nr_throttled":
			t.Throttled = uint64(n)
		case "throttled_usec":
			t.Time = time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
		case "throttled_time":
			t.Time = time.Duration(n)
		}
	}
	return t
}

// parsePressure reads "some avg10=12.34 ..." in percent.
func parsePressure(text []byte) (float64, bool) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("some avg10="))
		if !ok {
			continue
		}
		percent, _, _ := bytes.Cut(rest, []byte(" "))
		p, err := strconv.ParseFloat(string(percent), 64)
		return p / 100, err == nil && p >= 0 && p <= 100
	}
	return 0, false
}

// parseLoad reads the tasks that run or wait out of /proc/loadavg:
// "0.20 0.18 0.12 3/80 11206".
func parseLoad(text []byte) (int, bool) {
	for range 3 {
		_, text, _ = bytes.Cut(text, []byte(" "))
	}
	running, _, ok := bytes.Cut(text, []byte("/"))
	n, okInt := parseInt(running)
	return int(n), ok && okInt && n >= 0 && n <= math.MaxInt32
}

// parseDelay reads the time that a thread waited for a processor, out of its
// schedstat: "RUN DELAY SWITCHES" in nanoseconds.
func parseDelay(text []byte) (time.Duration, bool) {
	_, text, _ = bytes.Cut(text, []byte(" "))
	delay, _, ok := bytes.Cut(text, []byte(" "))
	n, okInt := parseInt(delay)
	return time.Duration(n), ok && okInt && n >= 0
}
