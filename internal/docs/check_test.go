package docs

import (
	"go/parser"
	"go/token"
	"testing"
)

// The checker itself: what it finds in a tree of two files.
func TestCheck(t *testing.T) {
	tree := &tree{
		files: map[string]bool{"tcp": true, "tcp/output.go": true, "tcp/poll_test.go": true, "docs/a.md": true},
		base:  map[string]int{"tcp": 1, "output.go": 1, "poll_test.go": 1, "a.md": 1, "twice.go": 2}, packages: map[string]bool{}, standard: map[string]bool{}, top: map[string]bool{},
		members: map[string]bool{}, embedded: map[string][]string{}, words: map[string]bool{}, within: map[string]bool{}, strings: map[string]bool{},
	}
	for _, src := range []string{`package tcp
import "net/http"
type Host struct { Reserve int; stats }
type stats struct { Sent int; parts struct{ lost int } }
type owner interface { Transmit() }
type Conn[T any] struct{}
func (*Conn[T]) Output() {}
const name = "latency"
func Dial() {}
`, "package tcp_test\nfunc TestOne() {}\nvar _ = \"ONLOAD_SPIN\""} {
		f, err := parser.ParseFile(token.NewFileSet(), "", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		tree.add("tcp/output.go", f)
	}
	good := "`tcp/` `tcp/output.go` `output.go` `tcp/*_test.go` `tcp.(*Conn).Output` `(*Conn).Output` `Output()` `tcp.Host.Reserve` `Host.Sent` " +
		"`Host.lost` `http.Serve` `tcp.(*Conn).Output` (`output.go`) `Dial` in `tcp/output.go` `owner.Transmit` `latency` `-latency` `ONLOAD_SPIN` `TestOne` TestOne `XDP_PASS` `tcp_tw_reuse` `a + b` `/proc/net` " +
		"go test ./tcp/... `tcp`\n```\n`gone`\n```\n"
	if wrong := tree.check(good); len(wrong) != 0 {
		t.Errorf("refused: %q", wrong)
	}
	for _, bad := range []string{"`udp/`", "`tcp/input.go`", "`twice.go`", "`gone.go`", "`tcp/*_gone.go`", "`tcp.Gone`", "`tcp.(*Conn).Input`", "`Conn.Input`", "`Host.Gone`",
		"`gone`", "`-gone`", "`ONLOAD_GONE`", "TestGone", "./gone", "`gone/x.go`", "`TestOne` in `tcp/poll_test.go`"} {
		if len(tree.check(bad)) != 1 {
			t.Errorf("%s passes", bad)
		}
	}
}
