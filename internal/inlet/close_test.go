package inlet_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onload-go/onload/internal/inlet"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// TestCloseLosesNothing: an end that we ask for is no loss, whether or not the
// goroutines that read wait already.
func TestCloseLosesNothing(t *testing.T) {
	lab.NeedRoot(t)
	ns, err := lab.NewNS("inlet")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	core, logs := observer.New(zap.InfoLevel)
	log := zap.New(core)
	for range 20 {
		e, err := inlet.OpenErrors(ns.Handle(), log, func(*ip.ICMPError) {})
		if err != nil {
			t.Fatal(err)
		}
		in, err := inlet.Open(ns.Handle(), log)
		if err != nil {
			t.Fatal(err)
		}
		in.Start(func([]inlet.Packet) {})
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, l := range logs.All() {
		t.Errorf("%s: %v", l.Message, l.ContextMap())
	}
}
