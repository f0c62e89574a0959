package onload_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// documented are the capabilities that README.md and doc.go ask for.
var documented = []string{"net_admin", "net_raw", "bpf"}

// usualMemlock is RLIMIT_MEMLOCK where nobody has raised it, in bytes.
const usualMemlock = 8 << 20

// TestPrivileges: a process that has what the documents name, and nothing else,
// connects over AF_XDP in both modes. One that lacks any of it is told which.
func TestPrivileges(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	ln, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	run := func(t *testing.T, mode, lacks string, memlock int, more ...string) {
		t.Helper()
		caps := slices.DeleteFunc(append(slices.Clone(documented), more...), func(c string) bool { return c == lacks })
		c := p.A.Nobody(t, caps, memlock, "-test.run=^TestHelperPrivileges$", "-test.v")
		c.Env = append(os.Environ(), "PRIVILEGES_IF="+p.A.If, "PRIVILEGES_MODE="+mode,
			"PRIVILEGES_TO="+ln.Addr().String(), "PRIVILEGES_LACKS="+lacks)
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestHelperPrivileges") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) { run(t, mode, "", usualMemlock) })
	}
	t.Run("all memory", func(t *testing.T) { run(t, "auto", "", usualMemlock, "ipc_lock") })
	for _, c := range documented {
		t.Run("without "+c, func(t *testing.T) { run(t, "auto", c, usualMemlock) })
	}
	t.Run("without memory", func(t *testing.T) { run(t, "auto", "RLIMIT_MEMLOCK", 64<<10) })
}

// TestHelperPrivileges is the process of TestPrivileges.
func TestHelperPrivileges(t *testing.T) {
	name := os.Getenv("PRIVILEGES_IF")
	if name == "" {
		return
	}
	mode := map[string]onload.Mode{"native": onload.ModeNative, "generic": onload.ModeGeneric}[os.Getenv("PRIVILEGES_MODE")]
	e, err := onload.New(onload.Config{Interfaces: []string{name}, Mode: mode, Logger: zap.NewNop()})
	if lacks := os.Getenv("PRIVILEGES_LACKS"); lacks != "" {
		want := "lacks CAP_" + strings.ToUpper(lacks) + ":"
		if strings.HasPrefix(lacks, "RLIMIT") {
			want = lacks + " is 64 KiB"
		} else if !errors.Is(err, os.ErrPermission) {
			t.Errorf("%v is no permission error", err)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		t.Log(err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := e.Dial("tcp", os.Getenv("PRIVILEGES_TO"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if path := onload.PathOf(c); !path.Accelerated {
		t.Fatal(path)
	}
	const text = "exactly these"
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Errorf("%q, %v", b, err)
	}
}
