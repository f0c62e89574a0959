package lab

import (
	"bytes"
	"fmt"
	"os"
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
	return ns.serve(t, "dnsmasq", "dnsmasq-base", append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-ping", "--user=root", "--pid-file=",
		"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"),
		"--interface=" + ns.If, "--except-interface=lo", "--bind-interfaces", "--log-facility=-", "--log-dhcp",
	}, args...)...)
}

// Radvd advertises the namespace as an IPv6 router of its link until the test ends, as the
// options of radvd.conf(5) for the interface say.
func (ns *NS) Radvd(t testing.TB, options string) *Log {
	t.Helper()
	if err := ns.Sysctl("net.ipv6.conf.all.forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "radvd.conf")
	text := fmt.Sprintf("interface %s {\n\tAdvSendAdvert on;\n\tMinRtrAdvInterval 3;\n\tMaxRtrAdvInterval 4;\n%s\n};\n", ns.If, options)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ns.serve(t, "radvd", "radvd", "--nodaemon", "--config="+conf, "--pidfile="+conf+".pid", "--logmethod=stderr")
}

// serve runs a server of a Debian package until the test ends.
func (ns *NS) serve(t testing.TB, name, of string, args ...string) *Log {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name // a user's PATH may lack sbin
	}
	if _, err := exec.LookPath(path); err != nil {
		need.Missing(t, "%s (Debian package %s)", name, of)
	}
	log := new(Log)
	cmd := ns.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", name, log)
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
