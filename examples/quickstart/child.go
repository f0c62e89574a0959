package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// The ends run in processes of their own, so that each has its own scheduler,
// as on two machines. They speak JSON on standard output.
const childCommand = "quickstart-end"

// engineConfig is how an end uses onload.
func engineConfig(profile string, interfaces ...string) (onload.Config, error) {
	// Each end has one processor on purpose: warnings about that would be noise.
	c := onload.Config{Interfaces: interfaces, Logger: zap.NewNop()}
	switch profile {
	case "latency":
		c.Profile = onload.Latency
	case "balanced":
		c.Profile = onload.Balanced
	case "throughput":
		c.Profile = onload.Throughput
	default:
		return c, fmt.Errorf("unknown profile %q: latency, balanced and throughput are known", profile)
	}
	return c, nil
}

// between measures the pair of ends that l names, the client in pair.A and the
// server in pair.B.
func between(ctx context.Context, pair *lab.Pair, l *line, each time.Duration) error {
	cpus := [2]string{"-1", "-1"}
	if p := processors(); len(p) >= 2 {
		cpus = [2]string{strconv.Itoa(p[0]), strconv.Itoa(p[1])}
	}
	srv, err := startChild(ctx, pair.B, cpus[0], "server", l.Server, l.Profile, pair.B.If, pair.B.Addr4.String())
	if err != nil {
		return err
	}
	defer srv.stop()
	var s servers
	if err := srv.receive(&s); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	cl, err := startChild(ctx, pair.A, cpus[1], "client", l.Client, l.Profile, pair.A.If, s.HTTP, s.TCP, each.String())
	if err != nil {
		return err
	}
	defer cl.stop()
	var r results
	if err := cl.receive(&r); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	l.ClientPath, l.ServerPath, l.HTTP, l.TCP = r.Path, s.Path, r.HTTP, r.TCP
	return nil
}

// end is a child process.
type end struct {
	cmd   *lab.Cmd
	stdin io.Closer
	out   *json.Decoder
}

func startChild(ctx context.Context, ns *lab.NS, args ...string) (*end, error) {
	cmd := ns.CommandContext(ctx, "/proc/self/exe", append([]string{childCommand}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &end{cmd, stdin, json.NewDecoder(bufio.NewReader(stdout))}, nil
}

func (e *end) receive(v any) error {
	if err := e.out.Decode(v); err != nil {
		if werr := e.cmd.Wait(); werr != nil {
			err = werr
		}
		return err
	}
	return nil
}

// stop has the process end by itself, so that it closes its engine.
func (e *end) stop() {
	e.stdin.Close()
	_ = e.cmd.Wait()
}

// child is an end: "CPU server WAY PROFILE INTERFACE IP" or
// "CPU client WAY PROFILE INTERFACE HTTP TCP DURATION".
func child(args []string) error {
	if len(args) < 6 {
		return errors.New("too few arguments")
	}
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := pin(cpu); err != nil {
		return err
	}
	role, way, profile, ifname, rest := args[1], args[2], args[3], args[4], args[5:]
	n := kernelNetwork
	if way == byOnload {
		cfg, err := engineConfig(profile, ifname)
		if err != nil {
			return err
		}
		e, err := onload.New(cfg)
		if err != nil {
			return err
		}
		defer e.Close()
		n = engineNetwork(e)
	}
	// Standard input ends when the parent does, or wants us to end.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if role == "server" {
		s, err := serve(n, rest[0])
		if err != nil {
			return err
		}
		defer s.close()
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	if len(rest) < 3 {
		return errors.New("too few arguments")
	}
	each, err := time.ParseDuration(rest[2])
	if err != nil {
		return err
	}
	r, err := measure(ctx, n, rest[0], rest[1], each)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
