package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/overlay"
	"github.com/onload-go/onload/internal/testlong"
)

// small is a module with two programs, a library with tests, and a dependency.
var small = map[string]string{
	"go.mod":            "module example.com/small\n\ngo 1.25.0\n\nrequire example.com/dep v0.0.0\n\nreplace example.com/dep => ./dep\n",
	"dep/go.mod":        "module example.com/dep\n\ngo 1.25.0\n",
	"dep/dep.go":        "package dep\n\nimport \"net\"\n\nfunc Addr() string {\n\tl, err := net.Listen(\"tcp\", \"127.0.0.1:0\")\n\tif err != nil {\n\t\treturn err.Error()\n\t}\n\tdefer l.Close()\n\treturn l.Addr().Network()\n}\n",
	"cmd/a/main.go":     "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Addr(), tag) }\n",
	"cmd/a/plain.go":    "//go:build !" + overlay.Tag + "\n\npackage main\n\nconst tag = \"plain\"\n",
	"cmd/a/onload.go":   "//go:build " + overlay.Tag + " && !user\n\npackage main\n\nconst tag = \"onload\"\n",
	"cmd/a/user.go":     "//go:build " + overlay.Tag + " && user\n\npackage main\n\nconst tag = \"onload and user\"\n",
	"cmd/b/main.go":     "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Addr()) }\n",
	"lib/lib.go":        "package lib\n\nimport \"example.com/dep\"\n\nfunc Addr() string { return dep.Addr() }\n",
	"lib/lib_test.go":   "package lib\n\nimport \"testing\"\n\nfunc TestAddr(t *testing.T) {\n\tif Addr() != \"tcp\" {\n\t\tt.Fatal(Addr())\n\t}\n}\n",
	"empty/empty.go":    "package empty\n",
	"single/single.go":  "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Addr()) }\n",
	"single/ignored.go": "//go:build ignore\n\npackage main\n",
}

// TestWays: modules, tests, several programs, and with -long all the rest that go
// build can do. Nothing is left in the user's tree.
func TestWays(t *testing.T) {
	dir := module(t, small)
	before := tree(t, dir)
	out := t.TempDir()
	if s := goTool(t, dir, "run", "-tags", "user", "./cmd/a"); s != "tcp onload and user\n" {
		t.Errorf("run: %q", s)
	}
	if s := goTool(t, dir, "test", "./..."); !strings.Contains(s, "ok  \texample.com/small/lib") {
		t.Errorf("test: %s", s)
	}
	t.Run("a release", func(t *testing.T) { atVersion(t, out) })
	if testlong.Enabled() {
		t.Run("all", func(t *testing.T) { allWays(t, dir, out) })
	}
	if after := tree(t, dir); after != before {
		t.Errorf("the tree was\n%sand is\n%s", before, after)
	}
}

// atVersion installs a program of a module's release, which is in the module cache for
// this module's sake. Its version is that of the release.
func atVersion(t *testing.T, out string) {
	const module, version = "github.com/vishvananda/netlink", "v1.3.1"
	t.Setenv("GOBIN", out)
	const needs = "golang.org/x/sys@v0.10.0" // the module's own dependency
	c := exec.Command("go", "mod", "download", needs)
	c.Dir = t.TempDir() // not in a module, whose go.sum would get it
	if o, err := c.CombinedOutput(); err != nil {
		need.Missing(t, "the module proxy for %s: %s", needs, o)
	}
	goTool(t, t.TempDir(), "install", module+"/cmd/ipset-test@"+version)
	text, err := exec.Command("go", "version", "-m", out+"/ipset-test").Output()
	for _, want := range []string{"mod\t" + module + "\t" + version, "-tags=" + overlay.Tag} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("go version -m: no %q, %v\n%s", want, err, text)
		}
	}
	nm, err := exec.Command("go", "tool", "nm", out+"/ipset-test").Output()
	if err != nil || !strings.Contains(string(nm), overlay.Module+"/netglue") {
		t.Errorf("it has no sockets of ours: %v", err)
	}
}

func allWays(t *testing.T, dir, out string) {
	runs := func(program, want string) {
		t.Helper()
		got, err := exec.Command(program).CombinedOutput()
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", program, got, err)
		}
	}
	goTool(t, dir, "build", "-o", out+"/", "./cmd/...")
	runs(out+"/a", "tcp onload\n")
	runs(out+"/b", "tcp\n")
	goTool(t, dir, "build", "-trimpath", "-race", "-o", out+"/race", "./cmd/a")
	runs(out+"/race", "tcp onload\n")
	if s := goTool(t, dir, "run", "single/single.go"); s != "tcp\n" {
		t.Errorf("run of a file: %q", s)
	}
	t.Setenv("GOBIN", out)
	goTool(t, dir, "install", "./cmd/b")
	runs(out+"/b", "tcp\n")
	goTool(t, dir, "build", "-C", "cmd", "-o", out+"/c", "./a")
	runs(out+"/c", "tcp onload\n")

	t.Setenv("GOARCH", "arm64")
	goTool(t, dir, "build", "-o", out+"/arm", "./cmd/a")
	t.Setenv("GOARCH", "")
	t.Setenv("GOOS", "windows")
	goTool(t, dir, "build", "-o", out+"/a.exe", "./cmd/a")
	t.Setenv("GOOS", "")

	work := module(t, map[string]string{"go.work": "go 1.25.0\n\nuse " + dir + "\n"})
	t.Setenv("GOWORK", filepath.Join(work, "go.work"))
	goTool(t, dir, "build", "-o", out+"/w", "./cmd/a")
	runs(out+"/w", "tcp onload\n")
	t.Setenv("GOWORK", "")

	vendored := module(t, small)
	c := exec.Command("go", "mod", "vendor")
	c.Dir = vendored
	if o, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go mod vendor: %v\n%s", err, o)
	}
	goTool(t, vendored, "build", "-mod=vendor", "-o", out+"/v", "./cmd/a")
	runs(out+"/v", "tcp onload\n")

	older := "go1.25.14"
	t.Setenv("GOTOOLCHAIN", older)
	if o, err := exec.Command("go", "version").CombinedOutput(); err != nil {
		need.Missing(t, "the module proxy for %s: %s", older, o)
	}
	goTool(t, dir, "build", "-o", out+"/older", "./cmd/a")
	runs(out+"/older", "tcp onload\n")
	if o, err := exec.Command("go", "version", out+"/older").Output(); err != nil || !strings.Contains(string(o), older) {
		t.Errorf("built by %s, %v", o, err)
	}
}

// tree lists a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		b.WriteString(p + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
