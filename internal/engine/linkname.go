package engine

import (
	"slices"

	"github.com/onload-go/onload/internal/control"
)

// maxName bounds an interface's name in bytes: an alternative name has up to
// ALTIFNAMSIZ (linux/if.h) less its final zero, a main one only 15.
const maxName = 127

// linkNamed finds a link by its name or by one of its alternative names. The
// kernel keeps both in one name space, so that at most one link matches.
func linkNamed(links []control.Link, name string) (control.Link, bool) {
	for _, l := range links {
		if l.Name == name || slices.Contains(l.AltNames, name) {
			return l, true
		}
	}
	return control.Link{}, false
}
