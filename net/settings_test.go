package onload_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestImpossibleSettings: a setting that only the interface shows to be impossible
// is an error that names the setting, also where an interface that cannot be opened
// is left to the kernel.
func TestImpossibleSettings(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	for _, tt := range []struct {
		c    onload.Config
		want []string
	}{
		{onload.Config{Queues: []int{5}}, []string{"Config.Queues (ONLOAD_QUEUES)", "no receive queue 5", "0 to 1"}},
		{onload.Config{Frames: 16}, []string{"Config.Frames (ONLOAD_FRAMES)", "16 frames for 2 queues"}},
	} {
		for _, interfaces := range [][]string{{p.A.If}, {"auto"}} {
			for _, fallback := range []bool{false, true} {
				tt.c.Interfaces, tt.c.Fallback, tt.c.NetNS, tt.c.Logger = interfaces, fallback, p.A.Path, zap.NewNop()
				e, err := onload.New(tt.c)
				if err == nil {
					e.Close()
					t.Errorf("%v, fallback %v: no error", interfaces, fallback)
					continue
				}
				for _, w := range append(tt.want, p.A.If) {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%v, fallback %v: %q does not mention %q", interfaces, fallback, err, w)
					}
				}
			}
		}
	}
}

// TestNoInterfaces: a program that asks for no interface is not warned that there
// is none.
func TestNoInterfaces(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	e, err := onload.New(onload.Config{Interfaces: []string{"none"}, Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if path := onload.PathOf(ln); path.Accelerated || !strings.Contains(path.Reason, "ONLOAD_INTERFACES=none") {
		t.Error(path)
	}
	if st := e.Status(); len(st) != 0 {
		t.Errorf("Status %+v", st)
	}
	if logs.Len() != 0 {
		t.Errorf("said: %v", logs.All())
	}
}
