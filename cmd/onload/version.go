package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/onload-go/onload/internal/inspect"
)

const versionHelp = "usage: onload version [--json]\n\nprints the version of this program, the revision that it was built from, and the version of the protocol by which it asks programs (onload ps, ss, stat)"

// versionInfo is what onload version prints.
type versionInfo struct {
	Version  string `json:"version"`            // of the module; (devel) of a working tree
	Revision string `json:"revision,omitempty"` // of Git; empty: the build did not note it
	Time     string `json:"time,omitempty"`     // of the revision, RFC 3339
	Modified bool   `json:"modified"`           // the working tree had changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"`
}

// versionOf takes a program's version from what the go command wrote into it.
func versionOf(b *debug.BuildInfo) versionInfo {
	v := versionInfo{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: inspect.Version}
	if b == nil {
		return v
	}
	if b.Main.Version != "" {
		v.Version = b.Main.Version
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is the version in words.
func (v versionInfo) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "onload %s %s %s\n", v.Version, v.Go, v.Platform)
	if v.Revision != "" {
		modified := ""
		if v.Modified {
			modified = ", with changes"
		}
		fmt.Fprintf(&b, "revision %s of %s%s\n", v.Revision, v.Time, modified)
	}
	fmt.Fprintf(&b, "inspection protocol %d\n", v.Protocol)
	return b.String()
}

func version(args []string) error {
	b, _ := debug.ReadBuildInfo()
	v := versionOf(b)
	switch {
	case len(args) == 0:
		fmt.Print(v)
		return nil
	case len(args) == 1 && strings.TrimLeft(args[0], "-") == "json":
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	return usageError(versionHelp)
}
