package operate

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// QueueList is what `onload queues --json` prints.
type QueueList struct {
	Processes []ProcessQueues `json:"processes"`
}

// ProcessQueues are the queues of a process.
type ProcessQueues struct {
	PID     int            `json:"pid"`
	Program string         `json:"program"`
	Queues  []report.Queue `json:"queues"`
}

// command is a command that asks processes and prints one value about all of them.
func command[T any](use, short, long string, list func([]*ask.Process) (T, error), print func(io.Writer, T) error) *cobra.Command {
	var o common
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ps, err := o.processes()
			if err != nil {
				return err
			}
			defer closeAll(ps)
			l, err := list(ps)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), l)
			}
			return print(c.OutOrStdout(), l)
		},
	}
	o.flags(c)
	return c
}

func queuesCommand() *cobra.Command {
	return command("queues", "show queues: mode, rings, drops", `Show the queues of each interface. MODE is where the XDP program runs, and copy or
zero-copy; BUFFERS the size of a frame, and several where a packet may take more than one.
RX has the entries of the ring that have a frame to receive into, TX those in use. PER TURN
is packets received for each poll turn of the stack that found any, PER KICK packets sent
for each system call. DROPS are packets that the kernel lost because the ring was full, and
those for which there was no frame.`, queueList, printQueues)
}

func queueList(ps []*ask.Process) (l QueueList, err error) {
	for _, p := range ps {
		q, err := ask.One[report.Queues](p, report.KindQueues, nil)
		if err != nil {
			return l, err
		}
		l.Processes = append(l.Processes, ProcessQueues{p.PID, programOf(p.PID), q.Queues})
	}
	return l, nil
}

func printQueues(out io.Writer, l QueueList) error {
	w := table(out)
	row(w, "PID", "INTERFACE", "QUEUE", "MODE", "BUFFERS", "RX", "TX", "RECEIVED", "SENT", "PER TURN", "PER KICK", "DROPS", "NOTE")
	for _, p := range l.Processes {
		for i := range p.Queues {
			q := &p.Queues[i]
			mode, buffers, note := q.Mode+", copy", fmt.Sprint(q.FrameSize), q.CopyReason
			if q.ZeroCopy {
				mode = q.Mode + ", zero-copy"
			}
			if q.MultiBuffer {
				buffers += ", several"
			}
			if q.Error != "" {
				note = q.Error
			}
			c := q.Counters
			row(w, p.PID, q.Interface, q.Queue, mode, buffers, fmt.Sprintf("%d/%d", q.RxFree, q.RxRing), fmt.Sprintf("%d/%d", q.TxUsed, q.TxRing),
				c["RxPackets"], c["TxPackets"], ratio(c["RxPackets"], q.Turns), ratio(c["TxPackets"], c["Kicks"]),
				c["RxDropped"]+c["RxFillEmpty"], orDash(note))
		}
	}
	return w.Flush()
}

func ratio(n, of uint64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(n)/float64(of))
}

// SteeringList is what `onload steer --json` prints.
type SteeringList struct {
	Processes []ProcessSteering `json:"processes"`
}

// ProcessSteering is the steering of a process's interfaces.
type ProcessSteering struct {
	PID        int               `json:"pid"`
	Program    string            `json:"program"`
	Interfaces []report.Steering `json:"interfaces"`
}

// mostEntries bounds a list: each entry is a system call of the process.
const mostEntries = 10000

func steerCommand() *cobra.Command {
	return command("steer", "show which packets an interface gives to the process", `Show the entries of the tables by which the XDP program of each interface decides: ports
and flows, each with its owner, which is the stack, the kernel, or a process that has a
broker's link. Packets are counted by what was decided, not for each entry, which would
cost each packet.`, steeringList, printSteering)
}

func steeringList(ps []*ask.Process) (l SteeringList, err error) {
	for _, p := range ps {
		one := ProcessSteering{PID: p.PID, Program: programOf(p.PID), Interfaces: []report.Steering{}}
		err := ask.Each(p, report.KindSteering, &report.SteerArgs{Most: mostEntries}, func(s *report.Steering) error {
			one.Interfaces = append(one.Interfaces, *s)
			return nil
		})
		if err != nil {
			return l, err
		}
		l.Processes = append(l.Processes, one)
	}
	return l, nil
}

func printSteering(out io.Writer, l SteeringList) error {
	for _, p := range l.Processes {
		for _, s := range p.Interfaces {
			fmt.Fprintln(out, plain(fmt.Sprintf("%d %s %s", p.PID, p.Program, s.Interface)))
			if s.Note != "" {
				fmt.Fprintln(out, "  "+plain(s.Note))
			}
			w := table(out)
			for _, e := range s.Entries {
				what, peer := "port", ""
				if e.Peer != (report.End{}) {
					what, peer = "flow", endText(e.Proto, e.Peer, true)
				}
				row(w, "  "+what, e.Proto, endText(e.Proto, e.Local, true), orDash(peer), e.Owner)
			}
			if s.Cut {
				row(w, "  ... more")
			}
			for _, d := range s.Decisions {
				if d.Packets > 0 {
					row(w, "  "+d.Name, d.Packets, d.Help)
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}
