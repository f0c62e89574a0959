package processors

import "testing"

// Whatever the files hold, no figure is impossible.
func FuzzFiles(f *testing.F) {
	f.Add("50000 100000\n")
	f.Add("max 100000\n")
	f.Add("-1\n")
	f.Add("usage_usec 5\nnr_periods 10\nnr_throttled 4\nthrottled_usec 9223372036854775807\n")
	f.Add("nr_periods 10\nnr_throttled 4\nthrottled_time 2500\n")
	f.Add("some avg10=12.34 avg60=0.00 avg300=0.00 total=0\nfull avg10=1e999 avg60=0.00\n")
	f.Add("0.20 0.18 0.12 3/80 11206\n")
	f.Add("0 66198 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		b := []byte(text)
		if quota, period, ok := parseMax(b); ok && (quota <= 0 || period <= 0) {
			t.Errorf("limit %d/%d", quota, period)
		}
		if s := parseStat(b); s.Time < 0 {
			t.Errorf("%+v", s)
		}
		if p, ok := parsePressure(b); ok && !(p >= 0 && p <= 1) {
			t.Errorf("pressure %v", p)
		}
		if n, ok := parseLoad(b); ok && n < 0 {
			t.Errorf("%d runnable", n)
		}
		if d, ok := parseDelay(b); ok && d < 0 {
			t.Errorf("delay %v", d)
		}
	})
}
