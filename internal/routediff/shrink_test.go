package routediff

import (
	"slices"
	"testing"
)

// shrink returns a smallest list of lines that still fails: none of them can be
// left out alone. Zeller's delta debugging, with halves first.
func shrink(lines []string, fails func([]string) bool) []string {
	for size := max(len(lines)/2, 1); ; {
		removed := false
		for at := 0; at < len(lines); {
			end := min(at+size, len(lines))
			rest := slices.Concat(lines[:at], lines[end:])
			if fails(rest) {
				lines, removed = rest, true
			} else {
				at = end
			}
		}
		switch {
		case size > 1:
			size /= 2
		case !removed:
			return lines
		}
	}
}

func TestShrink(t *testing.T) {
	var lines []string
	for c := 'a'; c <= 'z'; c++ {
		lines = append(lines, string(c))
	}
	// b matters only with q, and one of x and y is needed.
	got := shrink(lines, func(l []string) bool {
		has := func(s string) bool { return slices.Contains(l, s) }
		return has("b") && has("q") && (has("x") || has("y"))
	})
	if !slices.Equal(got, []string{"b", "q", "x"}) && !slices.Equal(got, []string{"b", "q", "y"}) {
		t.Errorf("%q", got)
	}
}
