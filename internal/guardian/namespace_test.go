package guardian

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/need"
)

const mayEndEnv = "ONLOAD_TEST_MAY_END"

func init() {
	if os.Getenv(mayEndEnv) != "" {
		fmt.Print(mayEnd())
		os.Exit(0)
	}
}

// TestMayEnd: the guardian of a process that the first one of a container has started may end
// with it. That of its grandchild's process, or outside of containers, does not.
func TestMayEnd(t *testing.T) {
	if why := mayEnd(); why != "" && os.Getppid() != 1 {
		t.Errorf("here: %s", why)
	}
	if os.Geteuid() != 0 {
		need.Missing(t, "root, for PID namespaces")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		need.Missing(t, "unshare of util-linux")
	}
	for script, want := range map[string]string{
		"/proc/self/exe; true":               "(sh) has started",
		"sh -c '/proc/self/exe; true'; true": "",
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(unshare, "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", strings.ReplaceAll(script, "/proc/self/exe", self))
		c.Env = append(os.Environ(), mayEndEnv+"=1")
		out, err := c.CombinedOutput()
		if err != nil || want == "" && len(out) > 0 || !strings.Contains(string(out), want) {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
}
