package processors

import (
	"testing"

	"github.com/onload-go/onload/internal/allocs"
)

func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Read()
	}
}

func BenchmarkView(b *testing.B) {
	w := Watch()
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.View()
	}
}

func BenchmarkRunDelay(b *testing.B) {
	w := Watch()
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.RunDelay()
	}
	b.ReportMetric(float64(len(w.threads.open)), "threads")
}

func BenchmarkObserve(b *testing.B) {
	var w Wake
	for b.Loop() {
		w.Observe(1)
	}
}

func TestViewAllocates(t *testing.T) {
	w := Watch()
	defer w.Close()
	w.RunDelay()
	if n := allocs.PerRun(100, func() { w.View() }); n != 0 {
		t.Errorf("View allocates %v times", n)
	}
}
