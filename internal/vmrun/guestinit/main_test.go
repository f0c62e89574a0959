package main

import (
	"errors"
	"os/exec"
	"testing"
)

// A program that fails is reported: it does not end the guest's first process.
func TestExitCode(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -KILL $$": 137} {
		if got, err := exitCode(exec.Command("sh", "-c", script).Run()); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", script, got, err, want)
		}
	}
	if _, err := exitCode(exec.Command("/no/such/program").Run()); err == nil || errors.As(err, new(*exec.ExitError)) {
		t.Errorf("no program: %v", err)
	}
}
