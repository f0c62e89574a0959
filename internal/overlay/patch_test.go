package overlay

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// netFiles are the files of this release's src/net.
func netFiles(t *testing.T) fs.FS {
	t.Helper()
	g, err := FindGo("")
	if err != nil {
		t.Fatal(err)
	}
	return os.DirFS(filepath.Join(g.Root, "src/net"))
}

// changedFile is a folder of which one file has other text.
type changedFile struct {
	fs.FS
	name, text string
}

func (c changedFile) Open(name string) (fs.File, error) {
	if name == c.name {
		return fstest.MapFS{name: {Data: []byte(c.text)}}.Open(name)
	}
	return c.FS.Open(name)
}

func TestPatchFitsThisRelease(t *testing.T) {
	changed, err := Patch(netFiles(t), runtime.Version())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if changed[r.file] == nil {
			t.Errorf("the rule for %s changed nothing", r.name)
		}
	}
}

// TestPatchRefuses: where net has another shape than a rule expects, the error names
// the rule, the release, and those that fit.
func TestPatchRefuses(t *testing.T) {
	files := netFiles(t)
	for _, c := range []struct{ file, from, to, rule string }{
		{"fd_posix.go", "pfd poll.FD", "pfd *poll.FD", "the type of netFD.pfd"},
		{"fd_unix.go", "pfd: poll.FD{", "pfd: descriptor{", "the descriptor of newFD"},
		{"fd_unix.go", ") accept() (", ") acceptOne() (", "netFD.accept"},
		{"sock_posix.go", "func socket(", "func openSocket(", "socket"},
		{"rawconn.go", "return &c.fd.pfd", "return c.fd.descriptor()", "rawConn.PollFD"},
		{"splice_linux.go", "pollSplice(&uc.fd.pfd", "pollSpliceTo(&uc.fd.pfd", "splice"},
		{"sendfile.go", "poll.SendFile(", "poll.SendFiles(", "sendfile"},
		{"writev_unix.go", "fd.pfd.Writev(", "fd.pfd.WriteAll(", "uses of netFD.pfd"},
		{"sockopt_posix.go", "func setReadBuffer(", "func (fd *netFD) poller() any { return &fd.pfd }\n\nfunc setReadBuffer(", "uses of netFD.pfd"},
	} {
		text, err := fs.ReadFile(files, c.file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), c.from) {
			t.Fatalf("%s has no %q", c.file, c.from)
		}
		dir := changedFile{files, c.file, strings.Replace(string(text), c.from, c.to, 1)}
		_, err = Patch(dir, "go1.99.0")
		if err == nil || !strings.Contains(err.Error(), "the rule for "+c.rule) || !strings.Contains(err.Error(), "go1.99.0") || !strings.Contains(err.Error(), Fits) {
			t.Errorf("%s with %q: %v", c.file, c.to, err)
		}
	}
}

func TestParseArgs(t *testing.T) {
	for _, c := range []struct {
		verb, line              string
		before, packages, after string
		tags                    string
	}{
		{"build", "-v -o x ./cmd/a ./cmd/b", "-v -o x", "./cmd/a ./cmd/b", "", ""},
		{"build", "-tags a,b -ldflags=-s .", "-ldflags=-s", ".", "", "a,b"},
		{"build", "", "", "", "", ""},
		{"run", "-race . -v file.go", "-race", ".", "-v file.go", ""},
		{"run", "a.go b.go x -y", "", "a.go b.go", "x -y", ""},
		{"test", "-race ./... -run X -count=1 -args a -b", "-race", "./...", "-run X -count=1 -args a -b", ""},
		{"test", "-v -run X", "-v -run X", "", "", ""},
		{"test", "-test.v ./a", "-test.v", "./a", "", ""},
		{"test", "./a -tags x", "", "./a", "", "x"},
		{"build", "--tags=x --race ./a", "--race", "./a", "", "x"},
	} {
		a, err := parseArgs(c.verb, strings.Fields(c.line))
		if err != nil {
			t.Errorf("%s %s: %v", c.verb, c.line, err)
			continue
		}
		join := func(s []string) string { return strings.Join(s, " ") }
		if join(a.before) != c.before || join(a.packages) != c.packages || join(a.after) != c.after || a.tags != c.tags {
			t.Errorf("%s %s: %q %q %q, tags %q", c.verb, c.line, a.before, a.packages, a.after, a.tags)
		}
	}
	if _, err := parseArgs("build", []string{"-o"}); err == nil {
		t.Error("a flag without its argument is no error")
	}
}
