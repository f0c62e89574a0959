package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

func init() {
	inspect.Handle(report.KindQueues, func(r *inspect.Request) error {
		if err := r.Decode(&struct{}{}); err != nil {
			return err
		}
		q := report.Queues{Queues: []report.Queue{}}
		for _, e := range shownEngines() {
			for _, i := range e.interfaces() {
				q.Queues = append(q.Queues, i.queueReports()...)
			}
		}
		return r.Send(&q)
	})
	inspect.Handle(report.KindSteering, func(r *inspect.Request) error {
		var args report.SteerArgs
		if err := r.Decode(&args); err != nil {
			return err
		}
		for _, e := range shownEngines() {
			for _, i := range e.interfaces() {
				if err := r.Send(i.steering(args.Most)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	inspect.Handle(report.KindRoutes, func(r *inspect.Request) error {
		if err := r.Decode(&struct{}{}); err != nil {
			return err
		}
		for _, e := range shownEngines() {
			if err := e.sendRoutes(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (i *Interface) queueReports() (l []report.Queue) {
	for _, s := range i.Stacks {
		st := s.Counts()
		for place, g := range s.Queues() {
			if g.Link != i.Index {
				continue
			}
			c := g.Queue.Caps()
			q := report.Queue{
				Interface: i.Name, Queue: queueNumber(g.Queue, place), Driver: c.Driver, Mode: c.Mode, ZeroCopy: c.ZeroCopy,
				CopyReason: c.CopyReason, NAPI: c.NAPI, FrameSize: i.Device.Arena().FrameSize(), MultiBuffer: c.MaxFrags > 1,
				MTU: c.MTU, TSO: c.TSO, RxRing: c.RxRing, RxFree: max(c.RxRing-g.Lacks, 0), TxRing: c.TxRing, TxUsed: max(c.TxRing-g.TxSpace, 0),
				Turns: st.Polls - st.EmptyPolls, Counters: map[string]uint64{},
			}
			if err := g.Queue.Err(); err != nil {
				q.Error = err.Error()
			}
			counted := g.Queue.Stats()
			counted.Each(func(name, _ string, n uint64) { q.Counters[name] = n })
			l = append(l, q)
		}
	}
	return l
}

// steering lists at most so many entries.
func (i *Interface) steering(most int) *report.Steering {
	r := &report.Steering{Interface: i.Name, Entries: []report.Entry{}, Decisions: []report.Decided{}}
	d, ok := i.Device.(driver.Lister)
	switch {
	case i.err() != nil:
		r.Note = i.err().Error()
		return r
	case !ok:
		r.Note = "the device steers in software, or a broker does: " + i.Device.Caps().Driver
		return r
	}
	err := d.EachSteered(func(x driver.Steered) bool {
		if len(r.Entries) >= most {
			r.Cut = true
			return false
		}
		e := report.Entry{Proto: protoName(x.Proto), Local: endOf(x.Local), Owner: x.Owner}
		if x.Remote.IsValid() {
			e.Peer = endOf(x.Remote)
		}
		r.Entries = append(r.Entries, e)
		return true
	})
	if err != nil {
		r.Note = err.Error()
	}
	all, err := d.Decisions()
	if err != nil {
		r.Note = err.Error()
	}
	for _, x := range all {
		r.Decisions = append(r.Decisions, report.Decided(x))
	}
	return r
}

func protoName(proto uint8) string {
	switch proto {
	case ip.ProtoTCP:
		return "tcp"
	case ip.ProtoUDP:
		return "udp"
	}
	return fmt.Sprint(proto)
}

func (e *Engine) sendRoutes(r *inspect.Request) error {
	for _, s := range e.stacks() {
		var some report.SomeRoutes
		var err error
		flush := func() {
			if err == nil && len(some.Routes) > 0 {
				err = r.Send(&some)
			}
			some.Routes = some.Routes[:0]
		}
		s.EachDestination(func(g *stack.DestinationGlance) {
			if some.Routes = append(some.Routes, e.routeReport(g)); len(some.Routes) >= listerBatch {
				flush()
			}
		})
		if flush(); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) routeReport(g *stack.DestinationGlance) report.Route {
	x := report.Route{
		Proto: protoName(g.Proto), Local: addrText(g.Local), Remote: addrText(g.Remote), TOS: int(g.TOS), Index: g.Link, Kernel: g.Detour,
		NextHop: addrText(g.NextHop), MTU: g.MTU, PathMTU: g.PathMTU, Users: g.Users, Waiting: g.Waiting,
	}
	if g.Err != 0 {
		x.Error = g.Err.Error()
	}
	if e.net == nil || g.Link == 0 {
		return x
	}
	if l, ok := e.net.Link(g.Link); ok {
		x.Interface = l.Name
	}
	x.Own = e.mirror == nil || slices.ContainsFunc(e.interfaces(), func(i *Interface) bool { return i.Index == g.Link && !i.Kernel })
	if mac, ok := e.net.Neighbor(g.Link, g.NextHop); ok && g.NextHop.IsValid() {
		x.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
	}
	return x
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
