package onload_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	onload "github.com/onload-go/onload/net"
)

// TestEnvErrorReachesCallers: a wrong variable is the error of New and of every
// function of the package. A process of its own makes the calls, since the
// default engine is made once.
func TestEnvErrorReachesCallers(t *testing.T) {
	const inChild = "TEST_ENV_ERROR"
	if os.Getenv(inChild) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestEnvErrorReachesCallers$", "-test.v")
		c.Env = append(os.Environ(), inChild+"=1", "ONLOAD_PROFILE=fast")
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestEnvErrorReachesCallers") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	for name, call := range map[string]func() error{
		"New":          func() error { _, err := onload.New(onload.Config{}); return err },
		"Default":      func() error { _, err := onload.Default(); return err },
		"Dial":         func() error { _, err := onload.Dial("tcp", "127.0.0.1:1"); return err },
		"Listen":       func() error { _, err := onload.Listen("tcp", "127.0.0.1:0"); return err },
		"ListenPacket": func() error { _, err := onload.ListenPacket("udp", "127.0.0.1:0"); return err },
		"DialTCP":      func() error { _, err := onload.DialTCP("tcp", nil, &onload.TCPAddr{Port: 1}); return err },
		"ListenUDP":    func() error { _, err := onload.ListenUDP("udp", nil); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "ONLOAD_PROFILE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
