package vmrun

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A guest that ends early is told by what QEMU and the kernel said. Another try is for
// an emulator that went wrong, not for a kernel that panicked.
func TestBootEnds(t *testing.T) {
	const started = `echo '{"Started":true}' >&6; `
	for _, c := range []struct {
		name, qemu string
		again      bool
		says       string
	}{
		{"report", started + `echo '{"Code":3}' >&6; exec sleep 60`, false, ""},
		{"before its program", "exit 1", true, "exit status 1"},
		{"panic", started + "echo Kernel panic >&3", false, "Kernel panic"},
		{"terminated", started + "echo terminating on signal 15 >&2", false, "terminating on signal 15"},
		{"crash", started + "kill -SEGV $$", true, "segmentation fault"},
		{"report that is none", "echo nonsense >&6", true, "the guest's report"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, qemuBinary), []byte("#!/bin/sh\n"+c.qemu+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			r, err := boot(t.Context(), nil, nil, io.Discard)
			if c.says == "" {
				if err != nil || r.Code != 3 {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, errNotStarted) != c.again || strings.Contains(err.Error(), "%!") {
				t.Errorf("%v, want one with %q, another try %v", err, c.says, c.again)
			}
		})
	}
}
