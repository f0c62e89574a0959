package vmrun

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

// errNotStarted is a guest that ended, or stood still, before its program started, and
// an emulator that crashed.
var errNotStarted = errors.New("the guest did not start")

// bootLimit is how long a guest may take to start its program: 3 s where nobody else
// needs the processor.
const bootLimit = 3 * time.Minute

// boot runs QEMU, which gets the files from fdImage on, until the program in the guest
// has ended. The program's output goes to out. Its last line is what QEMU took of the
// processors: other than how long it took, that depends little on who else needs them.
func boot(outer context.Context, args []string, files []*os.File, out io.Writer) (*protocol.Report, error) {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	var ends, theirs [fdStatus - fdLog + 1]*os.File
	for i := range ends {
		var err error
		if ends[i], theirs[i], err = os.Pipe(); err != nil {
			return nil, err
		}
		defer ends[i].Close()
		defer theirs[i].Close()
	}
	cmd := exec.CommandContext(ctx, qemuBinary, args...)
	cmd.ExtraFiles = append(theirs[:], files...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// The guest dies with this process, whatever kills it. The signal is for the end of
	// the thread that starts QEMU, so the goroutine keeps it.
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for _, f := range theirs {
		f.Close()
	}
	started := make(chan struct{})
	go func() {
		select {
		case <-time.After(bootLimit):
			cancel()
		case <-started:
		case <-ctx.Done():
		}
	}()
	var log bytes.Buffer
	var last protocol.Report
	ended := false
	var unread error
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(&log, ends[0]) }) // what there is of it
	both := &syncWriter{w: out}
	copies.Go(func() { _, _ = io.Copy(both, ends[fdStdout-fdLog]) })
	copies.Go(func() { _, _ = io.Copy(both, ends[fdStderr-fdLog]) })
	copies.Go(func() {
		lines := json.NewDecoder(bufio.NewReader(ends[fdStatus-fdLog]))
		for {
			var r protocol.Report
			if err := lines.Decode(&r); err != nil {
				if err != io.EOF { // QEMU did not just end
					unread = fmt.Errorf("the guest's report: %w", err)
				}
				return
			}
			if r.Started {
				close(started)
				continue
			}
			last, ended = r, true
			// A write to a port returns when QEMU has passed the data on, so all of
			// the output is in the pipes.
			cancel()
		}
	})
	err := cmd.Wait()
	copies.Wait()
	fmt.Fprintf(out, "QEMU took %.1f s of the processors\n", (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	if ended {
		return &last, nil
	}
	crashed := false
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		ws := exit.Sys().(syscall.WaitStatus) // package unix has its own type
		crashed = ws.Signaled() && ws.Signal() != unix.SIGKILL
	}
	if err == nil {
		err = errors.New("it ended with status 0, as when the guest resets or somebody terminates QEMU")
	}
	err = errors.Join(fmt.Errorf("QEMU: %w %s; the kernel's last messages:\n%s", err, said.Bytes(), tail(log.String(), 40)), unread)
	select {
	case <-started:
		if !crashed && errors.Is(outer.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("the tests took too long: %w", err)
		}
		if !crashed {
			return nil, fmt.Errorf("the guest ended before its program: %w", err)
		}
	default:
	}
	return nil, fmt.Errorf("%w: %w", errNotStarted, err)
}

// syncWriter lets several goroutines write.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

func tail(s string, lines int) string {
	all := strings.Split(strings.ReplaceAll(s, "\r", ""), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
