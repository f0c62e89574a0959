package metrics

import (
	"strconv"

	onload "github.com/onload-go/onload/net"
)

// Vars returns a function whose values expvar can publish:
//
//	expvar.Publish("onload", expvar.Func(metrics.Vars(e)))
//
// A value is a map with the members teams (a list), and listeners (a map by address). A
// team has interfaces (a list of names), counters by the names that onload.Stats.Each
// gives, and queues, by interface and number, with those of driver.Stats. This package
// does not import expvar, which adds a handler to net/http's default mux.
func Vars(e *onload.Engine) func() any {
	return func() any {
		s := e.Snapshot()
		teams := []any{}
		for _, t := range s.Teams {
			counters := map[string]uint64{}
			t.Stats.Each(func(name, _ string, _ bool, n uint64) { counters[name] = n })
			queues := map[string]map[string]uint64{}
			for _, q := range t.Queues {
				m := map[string]uint64{}
				q.Each(func(name, _ string, n uint64) { m[name] = n })
				queues[q.Interface+":"+strconv.Itoa(q.Queue)] = m
			}
			teams = append(teams, map[string]any{"interfaces": t.Interfaces, "counters": counters, "queues": queues})
		}
		listeners := map[string]any{}
		for _, l := range s.Listeners {
			listeners[address(l.Addr)] = map[string]any{
				"waiting": l.Waiting, "backlog": l.Backlog, "halfOpen": l.HalfOpen, "accepted": l.Accepted, "overflows": l.Overflows,
			}
		}
		return map[string]any{"teams": teams, "listeners": listeners}
	}
}
