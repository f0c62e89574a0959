package onload_test

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestMemoryLimit: in a cgroup of 256 MiB an interface of 32 queues, which would
// take as much by itself, works with less, and says so. Frames that were asked for
// and do not fit are an error, not the end of the process.
func TestMemoryLimit(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 32})
	ln, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	go echoing(ln)
	t.Cleanup(func() { ln.Close() })
	procs := lab.MemoryCgroup(t, 256<<20)
	c := p.A.Command("/proc/self/exe", "-test.run=^TestHelperMemoryLimit$", "-test.v")
	c.Env = append(os.Environ(), "LIMIT_IF="+p.A.If, "LIMIT_CGROUP="+procs, "LIMIT_TO="+ln.Addr().String())
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestHelperMemoryLimit") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHelperMemoryLimit is the process of TestMemoryLimit.
func TestHelperMemoryLimit(t *testing.T) {
	procs := os.Getenv("LIMIT_CGROUP")
	if procs == "" {
		return
	}
	if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	config := onload.Config{Interfaces: []string{os.Getenv("LIMIT_IF")}, Logger: zap.NewNop()}
	for _, fallback := range []bool{false, true} {
		tooMany := config
		tooMany.Frames, tooMany.Fallback = 1<<16, fallback
		_, err := onload.New(tooMany)
		for _, want := range []string{"Config.Frames (ONLOAD_FRAMES)", "has a limit of 256 MiB"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("65536 frames: error %v, want %q", err, want)
			}
		}
	}
	e, err := onload.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	st := e.Status()[0]
	if st.Queues != 32 || st.Frames*st.FrameSize > 64<<20 || st.Frames < 8192 || !strings.Contains(st.FramesReason, "has a limit of 256 MiB") {
		t.Errorf("status %+v", st)
	}
	pingEcho(t, e, os.Getenv("LIMIT_TO"))
}
