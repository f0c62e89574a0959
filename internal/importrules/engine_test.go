package importrules

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestEngine: the decision knows no type of package net, since the standard
// library's own net is to be one of its clients; and drivers of real links are
// chosen in two files: the kernel's interfaces, and NICs by their PCI address.
func TestEngine(t *testing.T) {
	files, err := filepath.Glob("../engine/*.go")
	if err != nil {
		t.Fatal(err)
	}
	sources := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		sources++
		opens := filepath.Base(name) == "device.go" || filepath.Base(name) == "pci.go"
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			switch path := strings.Trim(i.Path.Value, `"`); {
			case path == "net" || strings.HasPrefix(path, "net/") && path != "net/netip":
				t.Errorf("%s imports %s", name, path)
			case strings.HasPrefix(path, module+"/driver/") && path != module+"/driver/sim" && !opens:
				t.Errorf("%s imports %s: devices are opened in device.go and pci.go", name, path)
			}
		}
	}
	if sources == 0 {
		t.Error("there is no engine")
	}
}
