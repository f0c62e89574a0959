package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
	onload "github.com/onload-go/onload/net"
)

// The roles of a child.
const (
	client   = "client"
	server   = "server"
	upstream = "upstream"
	prepare  = "prepare" // makes what an external server needs, and ends
)

// order is a child's task. Children of other builds of this program must
// understand it, so fields are added, not changed.
type order struct {
	Program  string
	Role     string
	Onload   bool   // else the kernel
	Host     string // own address
	Remote   string // address and port of the server, or of a proxy's upstream
	Conns    int
	Kind     kind
	Duration time.Duration // measured, after Warm
	Warm     time.Duration
	CPU      int    // to run on, -1: any
	Cgroup   string // its file cgroup.procs, or empty
	Dir      string // what an external server needs
	Bound    time.Duration
}

// message is a line of a child's output.
type message struct {
	Error    string          `json:",omitempty"`
	Server   *program.Server `json:",omitempty"` // it can be called
	Mark     string          `json:",omitempty"` // the measurement begins or ends at this moment
	Sample   *result.Sample  `json:",omitempty"` // what the client measured
	Counters any             `json:",omitempty"` // of onload, the last that an end says
}

// The marks.
const (
	begin = "begin"
	end   = "end"
)

func child(o *order) error {
	if err := harness.Place(o.CPU, o.Cgroup); err != nil {
		return err
	}
	harness.Settle(o.Bound)
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	say := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(m) // a parent that is gone has ended us
	}
	err := o.run(say)
	if err != nil {
		say(message{Error: err.Error()})
		return nil
	}
	var m message
	if o.Onload {
		e, err := onload.Default()
		if err != nil {
			return err
		}
		m.Counters = e.Stats()
	}
	say(m)
	return nil
}

func (o *order) run(say func(message)) error {
	p := program.Find(o.Program)
	if p == nil {
		return fmt.Errorf("no program %q", o.Program)
	}
	n := program.Kernel()
	if o.Onload {
		n = program.Onload()
	}
	n.Host = o.Host
	var s *program.Server
	var err error
	switch o.Role {
	case client:
		return o.call(p, n.Checked(), say)
	case server:
		if p.External != nil {
			return o.become(p.External, say)
		}
		s, err = p.Serve(n, o.Host, o.Remote)
	case prepare:
		if p.External.Prepare == nil {
			return nil
		}
		return p.External.Prepare(o.Dir)
	case upstream:
		if p.Upstream == nil {
			return errors.New("has no upstream")
		}
		s, err = p.Upstream(n, o.Host)
	default:
		err = fmt.Errorf("no role %q", o.Role)
	}
	if err != nil {
		return err
	}
	say(message{Server: s})
	_, _ = bufio.NewReader(os.Stdin).WriteTo(io.Discard) // until the parent closes it
	return nil
}

// startup is how long an external server may take to start.
const startup = time.Minute

func (o *order) call(p *program.Program, n *program.Network, say func(message)) error {
	calls, err := p.Dial(n, o.Remote, o.Conns)
	if err != nil {
		return err
	}
	if p.External != nil { // nothing else says when it can be called
		for end := time.Now().Add(startup); calls[0]() != nil && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if err := connect(calls); err != nil {
		return err
	}
	time.AfterFunc(o.Warm, func() { say(message{Mark: begin}) })
	sm, err := o.Kind.drive(calls, &load.Spec{Warm: o.Warm, Duration: o.Duration}, func() { say(message{Mark: end}) })
	if err != nil {
		return err
	}
	sm.Lost = program.Lost()
	say(message{Sample: sm})
	return nil
}
