package onload_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestDeviceStatus: Status says how the device was opened, and why not better.
func TestDeviceStatus(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for _, tt := range []struct {
		c    onload.Config
		copy string
		napi string
		size int
	}{
		{onload.Config{}, "a veth link has no zero-copy", "", 4096},
		{onload.Config{ZeroCopy: onload.ZeroCopyOff, FrameSize: 2048}, "zero-copy is turned off", "", 2048},
		{onload.Config{NAPI: onload.NAPIDefer}, "a veth link has no zero-copy", "defer not set: ", 4096},
	} {
		tt.c.NetNS, tt.c.Interfaces, tt.c.Logger = p.A.Path, []string{p.A.If}, zap.NewNop()
		tt.c.Frames, tt.c.RingSize = 4096, 1024
		e, err := onload.New(tt.c)
		if err != nil {
			t.Fatal(err)
		}
		st := e.Status()[0]
		if st.Path.ZeroCopy || st.Path.CopyReason != tt.copy || st.FrameSize != tt.size {
			t.Errorf("%+v, want %q, frames of %d bytes", st, tt.copy, tt.size)
		}
		if !strings.HasPrefix(st.Path.NAPI, tt.napi) || (st.Path.NAPI == "") != (tt.napi == "") {
			t.Errorf("NAPI %q, want %q", st.Path.NAPI, tt.napi)
		}
		if len(st.Advice) != 0 {
			t.Errorf("advice about a link without interrupts: %q", st.Advice)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
