package guides

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	onload "github.com/onload-go/onload/net"
)

// TestMain is the program ./server of the guides in docs/deploy, where a block of theirs
// runs it; else it runs the tests.
func TestMain(m *testing.M) {
	if os.Getenv("GUIDE_SERVER") == "" {
		os.Exit(m.Run())
	}
	if err := server(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// server listens, or dials with -dial ADDRESS. It fails unless that is accelerated.
func server(args []string) error {
	e, err := onload.Default()
	if err != nil {
		return err
	}
	defer e.Close()
	var v any
	if len(args) == 2 && args[0] == "-dial" {
		c, err := onload.DialTimeout("tcp", args[1], time.Minute)
		if err != nil {
			return err
		}
		defer c.Close()
		v = c
	} else {
		ln, err := onload.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		defer ln.Close()
		v = ln
	}
	p := onload.PathOf(v)
	fmt.Println(p)
	if !p.Accelerated {
		return fmt.Errorf("it is not accelerated")
	}
	return nil
}

var runBlock = regexp.MustCompile("(?ms)^```sh run\n(.*?)^```")

// The blocks of the guides that are marked so run as they stand. Each has a namespace of
// its own, whose interface is named eth0; its peer has 169.254.1.1 too, as the host of a
// Calico pod. With -short they are those of systemd.md.
func TestGuides(t *testing.T) {
	guides, err := filepath.Glob("../../docs/deploy/*.md")
	if err != nil || len(guides) < 4 {
		t.Fatalf("%q, %v", guides, err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for user 65534
		t.Fatal(err)
	}
	copyServer(t, filepath.Join(dir, "server"))
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range runBlock.FindAllStringSubmatch(string(text), -1) {
			if testing.Short() && filepath.Base(guide) != "systemd.md" {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(guide), i), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{})
				if err := p.A.Rename("eth0"); err != nil {
					t.Fatal(err)
				}
				if out, err := p.B.Command("ip", "addr", "add", "169.254.1.1/32", "dev", p.B.If).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				ln, err := p.B.Listen("tcp", p.B.Addr4.String()+":80")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				go accepting(ln)
				c := p.A.Command("sh", "-e", "-c", m[1])
				c.Dir = dir
				c.Env = append(os.Environ(), "GUIDE_SERVER=1", "ONLOAD_GUARDIAN=off")
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s\n%s", guide, err, m[1], out)
				}
			})
		}
	}
}

func accepting(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

// copyServer copies this program, which user 65534 cannot reach where it is.
func copyServer(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// The capabilities of the unit are those that docs/deploy/systemd.md runs a program with.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/onload-server.service")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/deploy/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		m := regexp.MustCompile(`(?m)^` + set + `=(.*)$`).FindStringSubmatch(string(unit))
		if m == nil {
			t.Fatalf("no %s", set)
		}
		var caps []string
		for c := range strings.FieldsSeq(m[1]) {
			caps = append(caps, "+"+strings.ToLower(strings.TrimPrefix(c, "CAP_")))
		}
		for _, option := range []string{"--bounding-set", "--inh-caps", "--ambient-caps"} {
			if want := option + "=-all," + strings.Join(caps, ","); !strings.Contains(string(guide), want) {
				t.Errorf("%s: the guide has no %s", set, want)
			}
		}
	}
}
