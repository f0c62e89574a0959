package harness

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Numbers reads "1,2,3"; empty keeps what there is.
func Numbers(s string, into *[]int) error {
	if s == "" {
		return nil
	}
	var l []int
	for _, f := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil || n <= 0 {
			return fmt.Errorf("%q is not a list of positive numbers", s)
		}
		if !slices.Contains(l, n) {
			l = append(l, n)
		}
	}
	*into = l
	return nil
}

// Choose picks names out of those that there are, in their order.
func Choose(what, s string, there []string) ([]string, error) {
	if s == "" || s == "all" {
		return there, nil
	}
	want := strings.Split(s, ",")
	for _, w := range want {
		if !slices.Contains(there, w) {
			return nil, fmt.Errorf("no %s %q: there are %s", what, w, strings.Join(there, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(there), func(n string) bool { return !slices.Contains(want, n) }), nil
}
