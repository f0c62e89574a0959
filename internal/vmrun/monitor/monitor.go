// Package monitor has tests that run in a guest of package vmrun command its QEMU.
package monitor

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Linked is driver.Linked.
type Linked interface {
	LinkUp() bool
	OnLink(call func())
}

// Command gives QEMU a command (QMP), and waits until it is done.
func Command(t *testing.T, command string) {
	t.Helper()
	f, err := os.OpenFile(os.Getenv("VMRUN_MONITOR"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	answers := bufio.NewScanner(f)
	for _, c := range []string{`{"execute": "qmp_capabilities"}`, command} {
		if _, err := fmt.Fprintln(f, c); err != nil {
			t.Fatal(err)
		}
		for done := false; !done; {
			if !answers.Scan() {
				t.Fatalf("%s: %v", c, answers.Err())
			}
			line := answers.Text()
			done = strings.Contains(line, `"return"`)
			if strings.Contains(line, `"error"`) {
				if done = c != command; !done { // capabilities are asked for once
					t.Fatalf("%s: %s", c, line)
				}
			}
		}
	}
}

// SetLink takes the link of a NIC, by its number in the guest, down or up, and waits
// until its device has reported that.
func SetLink(t *testing.T, nic int, up bool, d Linked) {
	t.Helper()
	heard := make(chan struct{}, 9)
	d.OnLink(func() {
		select {
		case heard <- struct{}{}:
		default: // it is looked at anyway
		}
	})
	defer d.OnLink(nil)
	Command(t, fmt.Sprintf(`{"execute": "set_link", "arguments": {"name": "nic%d", "up": %v}}`, nic, up))
	for d.LinkUp() != up {
		select {
		case <-heard:
		case <-time.After(time.Minute):
			t.Fatalf("the device does not say that the link is up: %v", up)
		}
	}
}
