package stack

import "reflect"

// Add adds the counters of another stack over the same links and arena. What both
// have in common counts once.
func (st *Stats) Add(o *Stats) {
	free, frames, lost := st.FreeFrames, st.Frames, st.ReturnErrors
	addFields(reflect.ValueOf(st).Elem(), reflect.ValueOf(o).Elem())
	st.FreeFrames, st.Frames, st.ReturnErrors = max(free, o.FreeFrames), frames, max(lost, o.ReturnErrors)
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
