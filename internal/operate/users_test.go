package operate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// inChild is the environment variable that makes the test binary a child: a server, or
// one that asks the process whose PID is its value.
const inChild = "ONLOAD_TEST_CHILD"

func TestMain(m *testing.M) {
	switch what := os.Getenv(inChild); what {
	case "":
		os.Exit(m.Run())
	default:
		_ = os.Unsetenv(inChild) // engines check their variables
		if err := child(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func child(what string) error {
	if pid, err := strconv.Atoi(what); err == nil {
		p, err := ask.Of(pid)
		if err != nil {
			return err
		}
		s, err := ask.One[report.Status](p, report.KindStatus, nil)
		if err == nil {
			fmt.Println("engines", len(s.Engines))
		}
		return err
	}
	a, b, err := onload.NewMemoryPair(
		onload.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		onload.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.ReadAll(os.Stdin) // until the parent closes it
	return errors.Join(a.Close(), b.Close())
}

// as returns a command that runs the test binary as a user without any privilege.
func as(t *testing.T, uid uint32, what string) *exec.Cmd {
	t.Helper()
	self, err := os.Open("/proc/self/exe") // the user may not enter its folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = self.Close() })
	c := exec.Command("/proc/self/fd/3")
	c.ExtraFiles = []*os.File{self}
	c.Env = []string{inChild + "=" + what}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c
}

// TestUsers: a user's process answers the user and root; a stranger learns why it does
// not. What a killed process leaves is removed by who looks next.
func TestUsers(t *testing.T) {
	lab.NeedRoot(t)
	const user, stranger = 64321, 64322
	t.Cleanup(func() { _ = os.Remove(inspect.TempFolder(user)) })
	server := as(t, user, "serve")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	pid := fmt.Sprint(server.Process.Pid)
	if got, err := as(t, user, pid).Output(); string(got) != "engines 2\n" {
		t.Errorf("the user: %s%v", got, err)
	}
	if got, err := as(t, stranger, pid).Output(); err == nil || !strings.Contains(string(got), "operation not permitted") {
		t.Errorf("a stranger: %s%v", got, err)
	}
	l := runJSON[ProcessList](t, "ps", "-p", pid)
	if len(l.Processes) != 1 || l.Processes[0].UID != user || len(l.Processes[0].Engines) != 2 || l.Processes[0].Error != "" {
		t.Errorf("root: %+v", l)
	}
	p, err := ask.Of(server.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	_ = stdin.Close()
	if _, err := os.Lstat(p.Path); err != nil {
		t.Fatalf("it was to leave its socket: %v", err)
	}
	if _, err := ask.Of(server.Process.Pid); err == nil {
		t.Error("a dead process is found")
	}
	if _, err := os.Lstat(p.Path); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", p.Path, err)
	}
}
