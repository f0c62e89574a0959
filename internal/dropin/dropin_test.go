package dropin

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func TestVet(t *testing.T) {
	for pattern, want := range map[string][]string{
		"./testdata/program": {"dial.go:12:3: crypto/tls.Dialer.NetDialer", "main.go:12:31: crypto/tls.DialWithDialer"},
		"./testdata/byhand":  {"main.go:13:2: golang.org/x/net/websocket.Config.Dialer"},
	} {
		places, err := Vet("", []string{pattern})
		if err != nil {
			t.Fatal(err)
		}
		if len(places) != len(want) {
			t.Errorf("%s: %v", pattern, places)
			continue
		}
		for i, w := range want {
			if !strings.Contains(places[i].String(), w) {
				t.Errorf("%s: %v, not %s", pattern, places[i], w)
			}
		}
	}
}

// TestOthers: dependencies and the standard library stay as they are, whatever a pattern
// names.
func TestOthers(t *testing.T) {
	for _, pattern := range []string{"net/textproto", "golang.org/x/net/websocket"} {
		if changes, left, err := Swap("", []string{pattern}); err == nil || len(changes)+len(left) > 0 {
			t.Errorf("%s: %d changes, %v, %v", pattern, len(changes), left, err)
		}
	}
	changes, _, err := Swap("", []string{"net/textproto", "./testdata/program"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if !strings.Contains(c.File, "testdata") {
			t.Errorf("changed: %s", c.File)
		}
	}
}

// TestSwap: what Swap makes of a program compiles, and needs nothing more.
func TestSwap(t *testing.T) {
	changes, left, err := Swap("", []string{"./testdata/program"})
	if err != nil || len(left) > 0 {
		t.Fatal(err, left)
	}
	overlay := map[string][]byte{}
	var names []string
	for _, c := range changes {
		overlay[c.File] = c.Text
		names = append(names, filepath.Base(c.File))
	}
	if got := strings.Join(names, " "); got != "dial.go main.go main_test.go" {
		t.Fatalf("changed: %s", got)
	}
	for file, want := range map[string][]string{
		"dial.go": {`n "` + Onload + `"`, `"` + TLS + `"`, `"crypto/tls"`, "onloadtls.Dialer{", "// a comment that stays", "// dialer keeps"},
		"main.go": {`net "` + Onload + `"`, "onloadtls.DialWithDialer(d,"},
	} {
		for _, c := range changes {
			for _, w := range want {
				if filepath.Base(c.File) == file && !strings.Contains(string(c.Text), w) {
					t.Errorf("%s has no %s:\n%s", file, w, c.Text)
				}
			}
		}
	}
	pkgs, err := packages.Load(&packages.Config{
		Tests: true, Overlay: overlay,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedExportFile | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo,
	}, "./testdata/program")
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range pkgs {
		for _, e := range pkg.Errors {
			t.Errorf("what was swapped: %v", e)
		}
	}

	if _, left, err = Swap("", []string{"./testdata/byhand"}); err != nil || len(left) != 1 || left[0].Change != byHand {
		t.Errorf("a place to be changed by hand: %v, %v", left, err)
	}
}
