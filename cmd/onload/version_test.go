package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	b := &debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-30T22:00:00Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	text := versionOf(b).String()
	for _, want := range []string{"onload v0.1.0 go", "revision abc of 2026-11-30T22:00:00Z, with changes\n", "inspection protocol "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if text := versionOf(nil).String(); !strings.Contains(text, "onload (unknown) ") || strings.Contains(text, "revision") {
		t.Errorf("without build information: %q", text)
	}
	if err := version([]string{"now"}); !isUsage(err) {
		t.Errorf("an argument that it does not have: %v", err)
	}
}
