package lab

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/onload-go/onload/internal/need"
)

// Dnsmasq serves DHCP, router advertisements or DNS on the namespace's link until the
// test ends, as the arguments say: dnsmasq's long options, beside those that keep it from
// the machine's own files. It returns the log.
func (ns *NS) Dnsmasq(t testing.TB, args ...string) *Log {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path = "/usr/sbin/dnsmasq" // a user's PATH may lack sbin
	}
	if _, err := exec.LookPath(path); err != nil {
		need.Missing(t, "dnsmasq (Debian package dnsmasq-base)")
	}
	log := new(Log)
	cmd := ns.Command(path, append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-ping", "--user=root", "--pid-file=",
		"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"),
		"--interface=" + ns.If, "--except-interface=lo", "--bind-interfaces", "--log-facility=-", "--log-dhcp",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("dnsmasq says:\n%s", log)
		}
	})
	return log
}

// Log is what a process has written, for any goroutine.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String is all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
