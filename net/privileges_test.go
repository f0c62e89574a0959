package onload_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// documented are the capabilities that README.md and doc.go ask for.
var documented = []string{"net_admin", "net_raw", "bpf"}

// usualMemlock is RLIMIT_MEMLOCK where nobody has raised it, in bytes.
const usualMemlock = 8 << 20

// TestPrivileges: a process that has exactly the capabilities that the documents
// name connects over AF_XDP in both modes. A process that lacks one is told which,
// and what helps.
func TestPrivileges(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 1})
	ln, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoing(ln)
	for _, tt := range []struct {
		name    string
		mode    string
		caps    []string
		memlock int
		frames  int    // 0: as many as may be
		want    string // of the error; empty: it connects
	}{
		{"native", "native", documented, usualMemlock, 0, ""},
		{"generic", "generic", documented, usualMemlock, 0, ""},
		{"no CAP_NET_ADMIN", "auto", without("net_admin"), usualMemlock, 0, "lacks CAP_NET_ADMIN:"},
		{"no CAP_NET_RAW", "auto", without("net_raw"), usualMemlock, 0, "lacks CAP_NET_RAW:"},
		{"no CAP_BPF", "auto", without("bpf"), usualMemlock, 0, "lacks CAP_BPF:"},
		{"no memory", "auto", documented, 64 << 10, 0, "RLIMIT_MEMLOCK is 64 KiB"},

		// The ways out that the last error names.
		{"many frames", "auto", documented, 1 << 20, 1024, "raise it (ulimit -l, LimitMEMLOCK=), grant CAP_IPC_LOCK, or ask for fewer frames (ONLOAD_FRAMES)"},
		{"raised", "auto", documented, usualMemlock, 1024, ""},
		{"CAP_IPC_LOCK", "auto", append(without(""), "ipc_lock"), 1 << 20, 1024, ""},
		{"fewer frames", "auto", documented, 1 << 20, 128, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := p.A.Nobody(t, tt.caps, tt.memlock, "-test.run=^TestHelperPrivileges$", "-test.v")
			c.Env = append(os.Environ(), "PRIVILEGES_IF="+p.A.If, "PRIVILEGES_MODE="+tt.mode,
				"PRIVILEGES_FRAMES="+strconv.Itoa(tt.frames), "PRIVILEGES_TO="+ln.Addr().String(), "PRIVILEGES_WANT="+tt.want)
			out, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "PASS: TestHelperPrivileges") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// without returns the documented capabilities but one.
func without(name string) []string {
	return slices.DeleteFunc(slices.Clone(documented), func(c string) bool { return c == name })
}

// TestHelperPrivileges is the process of TestPrivileges.
func TestHelperPrivileges(t *testing.T) {
	name := os.Getenv("PRIVILEGES_IF")
	if name == "" {
		return
	}
	mode := map[string]onload.Mode{"native": onload.ModeNative, "generic": onload.ModeGeneric}[os.Getenv("PRIVILEGES_MODE")]
	frames, err := strconv.Atoi(os.Getenv("PRIVILEGES_FRAMES"))
	if err != nil {
		t.Fatal(err)
	}
	core, warnings := observer.New(zap.WarnLevel)
	e, err := onload.New(onload.Config{Interfaces: []string{name}, Mode: mode, Frames: frames, Logger: zap.New(core)})
	if want := os.Getenv("PRIVILEGES_WANT"); want != "" {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if strings.HasPrefix(want, "lacks") && !errors.Is(err, os.ErrPermission) {
			t.Errorf("%v is no permission error", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, w := range warnings.All() {
		if why := fmt.Sprint(w.ContextMap()); !strings.Contains(why, "RLIMIT_MEMLOCK") {
			t.Errorf("warning: %s: %s", w.Message, why)
		}
	}
	pingEcho(t, e, os.Getenv("PRIVILEGES_TO"))
}

// echoing accepts until ln is closed, and sends back what comes.
func echoing(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			c.Close()
		}()
	}
}

// pingEcho connects to an echoing server, over AF_XDP.
func pingEcho(t *testing.T, e *onload.Engine, address string) {
	t.Helper()
	c, err := e.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if path := onload.PathOf(c); !path.Accelerated {
		t.Fatal(path)
	}
	const text = "over the queues"
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Errorf("%q, %v", b, err)
	}
}
