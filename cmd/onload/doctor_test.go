package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/doctor"
	"github.com/onload-go/onload/internal/lab"
)

// TestDoctor: the page and the JSON say the same, and the exit status what they say.
func TestDoctor(t *testing.T) {
	t.Setenv("ONLOAD_PROFILE", "fast")
	missing := filepath.Join(t.TempDir(), "server")
	var page, text strings.Builder
	if err := runDoctor([]string{"-quick", missing}, &page); err != errBroken {
		t.Errorf("exit status for what is broken: %v", err)
	}
	if err := runDoctor([]string{"-quick", "-json", missing}, &text); err != errBroken {
		t.Errorf("exit status for what is broken, with -json: %v", err)
	}
	var r doctor.Report
	if err := json.Unmarshal([]byte(text.String()), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) < 2 {
		t.Errorf("findings: %+v", r.Findings)
	}
	for _, f := range r.Findings {
		if !strings.Contains(page.String(), f.Says) {
			t.Errorf("not on the page: %s", f.Says)
		}
	}
	for _, wrong := range [][]string{{"-x"}, {"a", "b"}, {"-p", "-1"}} {
		if err := runDoctor(wrong, &page); !isUsage(err) {
			t.Errorf("onload doctor %v: %v", wrong, err)
		}
	}
}

// TestDoctorRoundTrip: both ways are measured.
func TestDoctorRoundTrip(t *testing.T) {
	lab.NeedRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(echoEnv, "1")
	r, err := baseline(self)
	if err != nil || r.Kernel <= 0 || r.Onload <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// echoEnv has the test be the other end.
const echoEnv = "LAB_DOCTOR_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(echoEnv) != "" {
		if err := runDoctor(os.Args[1:], os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
