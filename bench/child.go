package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/onload-go/onload/bench/gvisor"
	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/raw"
	"github.com/onload-go/onload/bench/rung"
)

// order is a child process's task, in its environment.
type order struct {
	Kind       string // of rung
	Server     bool
	Mode       string // XDP
	Congestion string // of the kernel's TCP
	CPU        int    // to run on, -1: any
	If         string
	Remote     string // address
	LMAC, RMAC [6]byte
	Spec       load.Spec
	Bound      time.Duration // after which the child ends itself
	Profile    string        // file for a CPU profile, or empty
}

// greeting is a server's message when it can be called.
type greeting struct {
	Addrs []string
	Path  string
}

// farewell is a child's last message.
type farewell struct {
	Sample      load.Sample
	Error       string
	Unsupported bool
	MaxProcs    int
}

func child(o *order) error {
	if err := harness.Place(o.CPU, ""); err != nil {
		return err
	}
	harness.Settle(o.Bound)
	if o.Profile != "" {
		f, err := os.Create(o.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	sm, err := o.run()
	f := farewell{Sample: sm, MaxProcs: runtime.GOMAXPROCS(0)}
	if err != nil {
		f.Error, f.Unsupported = err.Error(), errors.Is(err, load.ErrUnsupported)
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

func (o *order) run() (load.Sample, error) {
	if o.Kind == rung.Raw || o.Kind == rung.RawCopy {
		return o.runRaw()
	}
	local, remote, err := o.addresses()
	if err != nil {
		return load.Sample{}, err
	}
	n, err := rung.Open(rung.Config{Kind: o.Kind, Interface: o.If, Mode: o.Mode, Congestion: o.Congestion, MTU: o.Spec.MTU, Bulk: o.Spec.Workload == load.Bulk,
		Host: gvisor.Host{Local: local, Remote: remote, LMAC: o.LMAC, RMAC: o.RMAC}})
	if err != nil {
		return load.Sample{}, err
	}
	defer n.Close()
	if o.Server {
		s, err := load.Serve(n, &o.Spec)
		return await(s, err)
	}
	return load.Call(n, &o.Spec)
}

func (o *order) runRaw() (load.Sample, error) {
	mode, err := rung.ParseMode(o.Mode)
	if err != nil {
		return load.Sample{}, err
	}
	local, remote, err := o.addresses()
	if err != nil {
		return load.Sample{}, err
	}
	c := raw.Config{Interface: o.If, Mode: mode, Local: local, Remote: remote, LMAC: o.LMAC, RMAC: o.RMAC, MTU: o.Spec.MTU, Copy: o.Kind == rung.RawCopy}
	if o.Server {
		s, err := raw.Serve(c, &o.Spec)
		return await(s, err)
	}
	return raw.Call(c, &o.Spec)
}

func (o *order) addresses() (local, remote netip.Addr, err error) {
	if local, err = netip.ParseAddr(o.Spec.Local); err == nil {
		remote, err = netip.ParseAddr(o.Remote)
	}
	return local, remote, err
}

// await says that the server is ready and stops it when the parent closes our
// standard input.
func await(s *load.Server, err error) (load.Sample, error) {
	if err != nil {
		return load.Sample{}, err
	}
	if err := json.NewEncoder(os.Stdout).Encode(greeting{s.Addrs, s.Path}); err != nil {
		return load.Sample{}, err
	}
	_, _ = bufio.NewReader(os.Stdin).WriteTo(io.Discard)
	sm, err := s.Stop()
	if sm.Path == "" {
		sm.Path = s.Path
	}
	return sm, err
}
