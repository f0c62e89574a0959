package packetdrill

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The scripts of testdata, over both versions of IP.
func TestScripts(t *testing.T) {
	n := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".pkt") {
			return err
		}
		src, err := os.ReadFile(path)
		n++
		for _, v6 := range []bool{false, true} {
			name := strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".pkt")
			if v6 {
				name += "/v6"
			}
			t.Run(name, func(t *testing.T) {
				if r := Run(string(src), Config{IPv6: v6}); r.Verdict != Pass {
					t.Errorf("%v", r)
				}
			})
		}
		return err
	})
	if err != nil || n < 30 {
		t.Fatalf("%d scripts, %v", n, err)
	}
}
