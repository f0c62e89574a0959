package operate

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// ProcessList is what `onload ps --json` prints.
type ProcessList struct {
	Processes []ProcessStatus `json:"processes"`
}

// ProcessStatus is a process with engines.
type ProcessStatus struct {
	PID     int             `json:"pid"`
	User    string          `json:"user"`
	UID     int             `json:"uid"`
	Program string          `json:"program"`
	Build   build           `json:"build"`
	Kernel  int             `json:"kernel_sockets"` // TCP and UDP, -1: they may not be read
	Error   string          `json:"error,omitempty"`
	Engines []report.Engine `json:"engines"`
}

func psCommand() *cobra.Command {
	var asJSON bool
	var pid int
	c := &cobra.Command{
		Use:   "ps",
		Short: "list processes with engines",
		Long: `List the processes that have interfaces of their own (engines): of this user, or as
root of everybody, in containers too. It removes sockets that killed processes left.

TCP counts connections that stacks carry, LISTEN and UDP bound sockets, KERNEL the TCP and
UDP sockets of the process that the kernel carries. MEMORY is for packets.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := processList(pid)
			if asJSON {
				return errors.Join(printJSON(c.OutOrStdout(), l), err)
			}
			return errors.Join(printProcesses(c.OutOrStdout(), l), err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON (docs/schema)")
	c.Flags().IntVarP(&pid, "pid", "p", 0, "this process only")
	c.Flags().BoolP("all", "a", true, "all processes, which is the default")
	complete(c)
	return c
}

func processList(pid int) (l ProcessList, err error) {
	l.Processes = []ProcessStatus{}
	var all []*ask.Process
	if pid != 0 {
		p, err := ask.Of(pid)
		if err != nil {
			return l, err
		}
		all = []*ask.Process{p}
	} else {
		all, err = ask.Find()
	}
	defer closeAll(all)
	for _, p := range all {
		l.Processes = append(l.Processes, statusOf(p))
	}
	return l, err
}

// statusOf asks a process. What goes wrong is in the status.
func statusOf(p *ask.Process) ProcessStatus {
	s := ProcessStatus{PID: p.PID, UID: p.UID, User: userName(p.UID), Program: programOf(p.PID), Build: buildOf(p.PID), Engines: []report.Engine{}, Kernel: -1}
	got, err := ask.One[report.Status](p, report.KindStatus, nil)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	s.Engines = got.Engines
	if k, err := kernelSockets(p.PID); err == nil {
		s.Kernel = len(k)
	}
	return s
}

func printProcesses(out io.Writer, l ProcessList) error {
	w := table(out)
	row(w, "PID", "USER", "PROGRAM", "ONLOAD", "PROFILE", "INTERFACES", "TCP", "LISTEN", "UDP", "KERNEL", "MEMORY")
	for _, p := range l.Processes {
		if p.Error != "" {
			row(w, p.PID, p.User, p.Program, orDash(p.Build.Onload), "-", p.Error, "-", "-", "-", "-", "-")
			continue
		}
		kernel := fmt.Sprint(p.Kernel)
		if p.Kernel < 0 {
			kernel = "?"
		}
		for _, e := range p.Engines {
			row(w, p.PID, p.User, p.Program, orDash(p.Build.Onload), e.Profile, interfacesOf(&e), e.Sockets.TCP, e.Sockets.Listeners, e.Sockets.UDP, kernel, size(e.Memory.Bytes))
		}
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// interfacesOf names an engine's interfaces, those that carry nothing in brackets.
func interfacesOf(e *report.Engine) string {
	var l []string
	for _, i := range e.Interfaces {
		if i.Error != "" {
			l = append(l, "("+i.Name+")")
		} else {
			l = append(l, i.Name)
		}
	}
	return orDash(strings.Join(l, ","))
}
