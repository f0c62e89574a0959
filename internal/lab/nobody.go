package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Nobody returns a Cmd that runs the test binary again, with those arguments,
// as user 65534 who has exactly the capabilities caps ("net_admin", as setpriv
// writes them) in every set and can get no others. memlock is its limit on
// locked memory in bytes.
func (ns *NS) Nobody(t testing.TB, caps []string, memlock int, args ...string) *Cmd {
	t.Helper()
	// User 65534 cannot enter the binary's directory, but may run an open file.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { self.Close() })
	const inChild = "/proc/self/fd/3" // the first of ExtraFiles
	set := "-all"
	for _, c := range caps {
		set += ",+" + c
	}
	line := []string{
		fmt.Sprintf("--memlock=%d:%d", memlock, memlock),
		"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
		"--bounding-set=" + set, "--inh-caps=" + set, "--ambient-caps=" + set, inChild,
	}
	c := ns.Command("prlimit", append(line, args...)...)
	if c.Err != nil {
		t.Fatalf("prlimit and setpriv of util-linux are needed to %s", strings.Join(line, " "))
	}
	c.ExtraFiles = []*os.File{self}
	return c
}
