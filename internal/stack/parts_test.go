package stack

import (
	"reflect"
	"testing"
)

// TestStackParts: Stack has few fields. A further field belongs into a part, which
// says whose it is.
func TestStackParts(t *testing.T) {
	const most = 25
	if n := reflect.TypeFor[Stack]().NumField(); n > most {
		t.Errorf("Stack has %d fields of its own, want at most %d", n, most)
	}
}
