package main

import (
	"strings"
	"testing"
)

// TestUsage: help is no error and is printed; what no command has is one that names it.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"help": "install", "-h": "install", "--help": "install", "help build": "go build", "build -h": "go build", "nic --help": "unbind",
	} {
		var out strings.Builder
		if err := onload(strings.Fields(line), &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("onload %s: %v\n%s", line, err, out.String())
		}
	}
	for line, want := range map[string]string{
		"":            "usage: onload COMMAND",
		"biuld .":     "unknown command biuld: did you mean build?",
		"instal x":    "unknown command instal: did you mean install?",
		"deploy":      "unknown command deploy: see onload help",
		"help deploy": "unknown command deploy",
	} {
		var out strings.Builder
		if err := onload(strings.Fields(line), &out); !isUsage(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("onload %s: %v", line, err)
		}
	}
}
