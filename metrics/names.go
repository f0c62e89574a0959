package metrics

import (
	"strings"
	"unicode"
)

const prefix = "onload_"

// nameOf returns the metric's name without prefix and suffix for a counter's name, such
// as TCP.ListenDrops.
func nameOf(counter string) string {
	if c, ok := strings.CutPrefix(counter, "Fragments."); ok {
		return "reassembly_" + snake(c)
	}
	if c, ok := strings.CutPrefix(counter, "TCP."); ok {
		return "tcp_" + snake(strings.TrimPrefix(c, "TCP"))
	}
	return snake(counter)
}

// snake returns a name in camel case in snake case. Capitals in a row are one word, and
// so is their plural: RxNoSocket is rx_no_socket, PAWSEstab is paws_estab, DelayedACKs is
// delayed_acks.
func snake(name string) string {
	r := []rune(name)
	// plural reports whether r[i] is the s of a plural such as ACKs.
	plural := func(i int) bool {
		return i > 1 && r[i] == 's' && unicode.IsUpper(r[i-1]) && unicode.IsUpper(r[i-2]) && (i+1 == len(r) || unicode.IsUpper(r[i+1]))
	}
	lower := func(i int) bool { return i < len(r) && !unicode.IsUpper(r[i]) && !plural(i) }
	var b strings.Builder
	for i := range r {
		if i > 0 && unicode.IsUpper(r[i]) && (!unicode.IsUpper(r[i-1]) || lower(i+1)) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r[i]))
	}
	return b.String()
}
