package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// orderEnv holds a child process's task.
const orderEnv = "GO_BENCH_ORDER"

// Order decodes the order of this process and reports whether it has one: then
// it is a child.
func Order(order any) (bool, error) {
	js := os.Getenv(orderEnv)
	if js == "" {
		return false, nil
	}
	return true, json.Unmarshal([]byte(js), order)
}

// Settle ends the preparations of a child: processes that it starts get no
// order, its limit of open files is raised to the maximum, and after bound it
// prints its stacks and ends.
func Settle(bound time.Duration) {
	os.Unsetenv(orderEnv)
	os.Unsetenv(placedEnv)
	time.AfterFunc(bound, func() {
		fmt.Fprintf(os.Stderr, "no end after %v; goroutines:\n", bound)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		os.Exit(3)
	})
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		lim.Max = max(lim.Max, 1<<20)
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) // the case fails by itself if it needs more
	}
}

// Process is a child. It dies with this process, however that ends.
type Process struct {
	Cmd    *lab.Cmd
	In     io.WriteCloser // its standard input
	Out    *json.Decoder  // what it says
	Stderr Tail
}

// Self is this program, as an argument of Start.
const Self = "/proc/self/exe"

// Start runs the program exe in the namespace ns, with an order and further
// variables of the environment.
func Start(ctx context.Context, ns *lab.NS, exe string, order any, env ...string) (*Process, error) {
	js, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	p := &Process{Cmd: ns.CommandContext(ctx, exe)}
	p.Cmd.Env = append(append(os.Environ(), orderEnv+"="+string(js)), env...)
	p.Cmd.Stderr = &p.Stderr
	p.Cmd.WaitDelay = time.Second
	if p.In, err = p.Cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.Out = json.NewDecoder(out)
	return p, p.Cmd.Start()
}

// Seconds is the processor time that a process used which has ended.
func (p *Process) Seconds() float64 {
	s := p.Cmd.ProcessState
	if s == nil {
		return 0
	}
	return (s.UserTime() + s.SystemTime()).Seconds()
}

// Tail keeps the beginning of a child's message about its failure.
type Tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 1<<18 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}

// Failure is a run without a result, with the children's messages.
type Failure struct {
	Err    error
	Detail string
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }
