package afxdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/afxdp/undo"
	"github.com/onload-go/onload/internal/lab"
)

// fakeSysfs has one interface, x0 with number 7.
func fakeSysfs(t *testing.T, defers, flush string) (p *napiPlan, value func(name string) string) {
	t.Helper()
	dirs := napiPaths{t.TempDir(), t.TempDir()}
	dir := filepath.Join(dirs.sysfs, "x0")
	must(t, os.Mkdir(dir, 0o700))
	for name, v := range map[string]string{"ifindex": "7\n", deferFile: defers, flushFile: flush} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(v), 0o600))
	}
	// No NAPI instance has the number 1: kernels before 6.13 answer alike.
	return &napiPlan{want: NAPIDefer, link: &linkInfo{name: "x0", index: 7}, ids: []uint32{1}, dirs: dirs}, func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		first, _, _ := strings.Cut(string(b), "\n")
		return first
	}
}

// Kernels without settings of each NAPI instance have those of the interface.
func TestNAPIPerInterface(t *testing.T) {
	p, value := fakeSysfs(t, "0\n", "0\n")
	h, err := p.make("napi-1-7-")
	must(t, err)
	if d, f := value(deferFile), value(flushFile); d != "2" || f != "200000" {
		t.Errorf("deferred by %s and %s", d, f)
	}
	if want := "x0: interrupts after 2 polls, a poll after 200µs"; p.said != want {
		t.Errorf("said %q, want %q", p.said, want)
	}
	// Another engine shares them.
	q := *p
	h2, err := q.make("napi-1-7-")
	must(t, err)
	if want := "defer, set by another process"; q.said != want {
		t.Errorf("said %q, want %q", q.said, want)
	}
	must(t, h.Close())
	if d := value(deferFile); d != "2" {
		t.Errorf("%s although another engine is there", d)
	}
	must(t, h2.Close())
	until(t, func() bool { return value(deferFile) == "0" && value(flushFile) == "0" })
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not put back")
		}
	}
}

// A setting that somebody else made is kept, also after us.
func TestNAPIForeign(t *testing.T) {
	for _, was := range [][2]string{{"5", "0"}, {"0", "20000"}, {"9", "30000"}} {
		p, value := fakeSysfs(t, was[0]+"\n", was[1]+"\n")
		h, err := p.make("napi-1-7-")
		must(t, err)
		if !strings.Contains(p.said, "kept as found") {
			t.Errorf("said %q", p.said)
		}
		must(t, h.Close())
		if d, f := value(deferFile), value(flushFile); d != was[0] || f != was[1] {
			t.Errorf("%s and %s, were %v", d, f, was)
		}
	}
}

func TestNAPIRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(p *napiPlan)
		says  string
	}{
		"no instance": {func(p *napiPlan) { p.ids = nil }, "no NAPI instance"},
		"namespace":   {func(p *napiPlan) { p.link.index = 8 }, "network namespace"},
		"gone":        {func(p *napiPlan) { p.link.name = "x1" }, "network namespace"},
		"thread":      {func(p *napiPlan) { p.want = NAPIThread }, "Linux 6.19"},
		"no file":     {func(p *napiPlan) { _ = os.Remove(filepath.Join(p.dirs.sysfs, "x0", flushFile)) }, flushFile},
		"nonsense":    {func(p *napiPlan) { _ = os.WriteFile(filepath.Join(p.dirs.sysfs, "x0", deferFile), []byte("many"), 0) }, "many"},
	} {
		p, value := fakeSysfs(t, "0\n", "0\n")
		tt.spoil(p)
		h, err := p.make("napi-1-7-")
		if h != nil || err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
		if v := value("ifindex"); v != "7" {
			t.Errorf("%s: ifindex %s", name, v)
		}
	}
	_, _, _, err := new(napi).plan(NAPIThread)
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a kernel that does not tell of threads: %v", err)
	}
}

// The instances of veth are real, though AF_XDP sockets have none there: what
// is set by netlink, and what the restorer puts back.
func TestNAPIPerInstance(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{Queues: 2})
	openAt(t, pair.A, Config{Mode: ModeNative})
	var all []napi
	var family uint16
	var l *linkInfo
	must(t, pair.A.Do(func() (err error) {
		if family, err = netdevFamily(); err != nil {
			return err
		}
		if l, err = lookupLink(pair.A.If); err != nil {
			return err
		}
		all, err = listNAPIs(family, l.index)
		return err
	}))
	needs(t, "6.13", len(all) == 2 && all[0].own)
	ids := []uint32{all[0].id, all[1].id}
	has := func(i int, defers, flush uint64) (yes bool) {
		must(t, pair.A.Do(func() error {
			n, err := queryNAPI(family, ids[i])
			yes = n.defers == defers && n.flush == flush
			return err
		}))
		return yes
	}
	// The second one is somebody's already.
	theirs, flush := uint64(7), uint64(12345)
	must(t, pair.A.Do(func() error { return (&set{id: ids[1], defers: &theirs, flush: &flush}).do(family) }))
	p := &napiPlan{want: NAPIDefer, link: l, ids: ids, dirs: napiPaths{t.TempDir(), t.TempDir()}}
	var h *undo.Hold
	must(t, pair.A.Do(func() (err error) {
		h, err = p.make("napi-1-7-")
		return err
	}))
	want := fmt.Sprintf("NAPI %d: interrupts after 2 polls, a poll after 200µs; NAPI %d: kept as found, interrupts after 7 polls, a poll after 12.345µs", ids[0], ids[1])
	if p.said != want {
		t.Errorf("said %q, want %q", p.said, want)
	}
	if !has(0, napiDefers, uint64(napiFlush)) || !has(1, 7, 12345) {
		t.Error("not set")
	}
	must(t, h.Close())
	until(t, func() bool { return has(0, 0, 0) })
	if !has(1, 7, 12345) {
		t.Error("somebody's settings changed")
	}
}

// On virtual links nothing is ever set, and that is said.
func TestNAPIVirtual(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	for _, want := range []NAPI{NAPIDefer, NAPIThread} {
		d, err := tryOpen(pair.A, Config{Mode: ModeNative, NAPI: want})
		must(t, err)
		if got, says := d.Caps().NAPI, want.String()+" not set: "+errNoNAPI.Error(); got != says {
			t.Errorf("%q, want %q", got, says)
		}
		if d.queues.all()[0].busyPoll {
			t.Error("busy polling of nothing")
		}
		must(t, d.Close())
	}
}
