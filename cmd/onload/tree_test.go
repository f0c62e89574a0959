package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManPages: each command that people call has a page, with its options.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if err := onload([]string{"man", dir}, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if c.usage == "" {
			continue // a shell calls it
		}
		page, err := os.ReadFile(filepath.Join(dir, "onload-"+c.name+".1"))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(page), "NAME") {
			t.Errorf("%s: %s", c.name, page)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "onload-ss.1"))
	if err != nil || !strings.Contains(string(page), "listening and unconnected sockets only") {
		t.Errorf("options of ss are missing: %v\n%s", err, page)
	}
	if err := onload([]string{"man", filepath.Join(dir, "none")}, &strings.Builder{}); err == nil {
		t.Error("a folder that is not there")
	}
}

// TestFlagErrors: an option that a command does not have is an error of usage.
func TestFlagErrors(t *testing.T) {
	for _, line := range []string{"ss --lisening", "stat --pid x", "completion tcsh", "man", "ps more"} {
		if err := onload(strings.Fields(line), &strings.Builder{}); err == nil {
			t.Errorf("onload %s: no error", line)
		} else if line != "ps more" && !isUsage(err) {
			t.Errorf("onload %s: %v is no error of usage", line, err)
		}
	}
}
