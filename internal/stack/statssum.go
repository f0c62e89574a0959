package stack

import "reflect"

// TeamStats is the sum of the counters of stacks over the same links and arena, with
// the queues of one interface only. What they have in common counts once: the memory,
// and listeners and bound UDP sockets, which have a shard on each.
func TeamStats(ss []*Stack, index int) (all Stats) {
	return teamStats(ss, func(s *Stack) Stats { return s.LinkStats(index) })
}

// TeamCounts is TeamStats without queues.
func TeamCounts(ss []*Stack) Stats { return teamStats(ss, (*Stack).Counts) }

func teamStats(ss []*Stack, of func(*Stack) Stats) (all Stats) {
	var listeners, bound, bounds int // on a stack at most; and on all
	for i, s := range ss {
		one := of(s)
		n := s.boundUDPs()
		listeners, bound, bounds = max(listeners, one.Listeners), max(bound, n), bounds+n
		if i == 0 {
			all = one
			continue
		}
		free, frames, lost := all.FreeFrames, all.Frames, all.ReturnErrors
		without := all.InletsWithoutRoom
		addFields(reflect.ValueOf(&all).Elem(), reflect.ValueOf(&one).Elem())
		all.FreeFrames, all.Frames = max(free+s.ownFrames(), 0), frames
		all.ReturnErrors = max(lost, one.ReturnErrors)
		all.InletsWithoutRoom = without
	}
	all.Listeners, all.UDPs = listeners, max(all.UDPs-bounds+bound, 0)
	return all
}

// boundUDPs is the number of addresses that UDP sockets are bound to.
func (s *Stack) boundUDPs() int {
	s.begin()
	defer s.end()
	return len(s.demux.udps)
}

// ownFrames returns how many free frames the stack keeps, less those that its queues
// lack.
func (s *Stack) ownFrames() int {
	s.begin()
	defer s.end()
	if s.life.closing.Load() {
		return 0
	}
	n := s.cache.Len()
	for _, q := range s.queues {
		n -= q.Lacks()
	}
	return n
}

// addFields adds the numbers of b to those of a, and appends its lists.
func addFields(a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			addFields(a.Field(i), b.Field(i))
		}
	case reflect.Array:
		for i := range a.Len() {
			addFields(a.Index(i), b.Index(i))
		}
	case reflect.Slice:
		a.Set(reflect.AppendSlice(a, b))
	case reflect.Int, reflect.Int64, reflect.Int32:
		a.SetInt(a.Int() + b.Int())
	case reflect.Uint64, reflect.Uint32:
		a.SetUint(a.Uint() + b.Uint())
	}
}
