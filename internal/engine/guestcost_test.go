//go:build guest

package engine_test

import (
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	onload "github.com/onload-go/onload/net"
)

// TestGuestInstructions: what the device checksums, segments and merges costs the
// process a quarter at most. The guest's clock counts instructions (QEMU's -icount), so
// the process's time is what it has executed, both ends together.
func TestGuestInstructions(t *testing.T) {
	if os.Getenv("VMRUN_TAP") == "" {
		t.Fatal("the link must carry segments, and the clock count instructions: see TestInGuestInstructions")
	}
	with := cost(t, onload.OffloadsAuto)
	without := cost(t, onload.OffloadsOff)
	t.Logf("instructions per MiB: %d with offloads, %d without: %.1f times", with, without, float64(without)/float64(with))
	if without < 4*with {
		t.Errorf("offloads save too little")
	}
}

// cost is how many instructions a MiB takes from one NIC to the other.
func cost(t *testing.T, offloads onload.Offloads) int64 {
	t.Helper()
	var ends [2]*onload.Engine
	for i := range ends {
		nic := os.Getenv(fmt.Sprintf("VMRUN_NIC%d_PCI", i))
		e, err := onload.New(onload.Config{
			Interfaces: []string{nic}, Static: []string{fmt.Sprintf("%s 10.9.0.%d/24", nic, 1+i)},
			Logger: zap.NewNop(), Offloads: offloads, Profile: onload.Throughput,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		ends[i] = e
	}
	l, err := ends[1].Listen("tcp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 8 << 20
	failed := make(chan error, 1)
	go func() {
		c, err := ends[0].Dial("tcp", "10.9.0.2:7")
		for b, n := make([]byte, 256<<10), 0; err == nil && n < 2*size; n += len(b) {
			_, err = c.Write(b)
		}
		failed <- err
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 256<<10)
	read := func(n int64) {
		if k, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, n), b); k != n {
			t.Fatalf("%d of %d bytes came: %v", k, n, err)
		}
	}
	read(size) // the windows open
	before := executed(t)
	read(size)
	after := executed(t)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return (after - before) / (size >> 20)
}

// executed is the processor time of the process, in ns.
func executed(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}
