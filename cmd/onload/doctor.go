package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/onload-go/onload/internal/doctor"
	"github.com/onload-go/onload/internal/lab"
	onloadnet "github.com/onload-go/onload/net"
)

const doctorUsage = `usage: onload doctor [-p PID] [-json] [-quick] [PROGRAM|IF]

doctor says whether a program would be accelerated here, with the ONLOAD_ variables of the
environment, and if not, why, and what to type to mend it. PROGRAM is an executable file
(with a slash in its name, or in PATH), IF an interface; -p has the privileges and limits
of a running process count. As root it also measures a round trip on a veth pair in
namespaces of its own, which -quick leaves out. It changes nothing. The exit status is 1
if something is broken`

// errBroken has the exit status say what the page says.
var errBroken = errors.New("onload doctor: not accelerated")

func doctorCommand(args []string) error { return runDoctor(args, os.Stdout) }

func runDoctor(args []string, out io.Writer) error {
	f := flag.NewFlagSet("onload doctor", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	pid := f.Int("p", 0, "")
	asJSON := f.Bool("json", false, "")
	quick := f.Bool("quick", false, "")
	echoes := f.String("echo", "", "") // for baseline: the other end
	if err := f.Parse(args); err != nil || f.NArg() > 1 || *pid < 0 {
		return usageError(doctorUsage)
	}
	if *echoes != "" {
		return echo(*echoes, out)
	}
	c := doctor.Config{PID: *pid}
	if f.NArg() == 1 {
		c.Interface, c.Path = subject(f.Arg(0))
	}
	r := doctor.Examine(c)
	if !*quick && os.Geteuid() == 0 && !r.Has("setting") { // no engine opens with wrong ones
		t, err := baseline("/proc/self/exe", "doctor")
		if err != nil {
			r.Findings = append(r.Findings, doctor.Finding{ID: "round-trip", Severity: doctor.Broken, Says: fmt.Sprintf("A veth pair in namespaces of its own does not work: %v.", err)})
			r.Sort()
		}
		r.RoundTrip = t
	}
	var err error
	if *asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(&r)
	} else {
		err = r.WriteText(out)
	}
	if err == nil && !r.Accelerated() {
		err = errBroken
	}
	return err
}

// subject says whether a word is an interface or a program.
func subject(word string) (link, program string) {
	if strings.Contains(word, "/") {
		return "", word
	}
	if _, err := net.InterfaceByName(word); err == nil {
		return word, ""
	}
	if path, err := exec.LookPath(word); err == nil {
		return "", path
	}
	return word, ""
}

// trips is how many round trips are measured, for trip at most.
const (
	trips = 2000
	trip  = 300 * time.Millisecond
)

// echo serves at an address, says at which port, and ends with its standard input.
func echo(address string, out io.Writer) error {
	ln, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return ln.Close()
}

// baseline measures one-byte round trips between two namespaces, by onload at one end
// and by the kernel alone. The other end is a process of its own, of that command with
// the flag -echo.
func baseline(command ...string) (*doctor.RoundTrip, error) {
	p, err := lab.MakePair(lab.Options{})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	other := p.B.Command(command[0], append(command[1:], "-echo", p.B.Addr4.String())...)
	in, err := other.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := other.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := other.Start(); err != nil {
		return nil, err
	}
	defer other.Wait()
	defer in.Close()
	var address string
	if _, err := fmt.Fscanln(said, &address); err != nil {
		return nil, fmt.Errorf("the other end says nothing: %w", err)
	}
	e, err := onloadnet.New(onloadnet.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 1024, Profile: onloadnet.Latency, Guardian: "off", Broker: "off"})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	var t doctor.RoundTrip
	if t.Onload, err = roundTrip(e.Dial("tcp", address)); err != nil {
		return nil, err
	}
	t.Kernel, err = roundTrip(p.A.Dial("tcp", address))
	return &t, err
}

// roundTrip is the median over c, in us.
func roundTrip(c net.Conn, err error) (float64, error) {
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var all []time.Duration
	b := make([]byte, 1)
	for end := time.Now().Add(trip); len(all) < trips && time.Now().Before(end); {
		from := time.Now()
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return 0, err
		}
		all = append(all, time.Since(from))
	}
	slices.Sort(all)
	return float64(all[len(all)/2].Nanoseconds()) / 1000, nil
}
