package onload

import (
	"net"
	"os"
	"reflect"
)

const carriedByNet = "package net has the interfaces: the program was made by onload build"

// netCarries reports whether onload build has made this program and is not turned off.
// No build tag can say the first, since programs have tags of their own: the descriptor
// in package net's connections has another type.
func netCarries() bool {
	t := reflect.TypeFor[net.TCPConn]()
	for _, field := range []string{"conn", "fd", "pfd"} {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		f, ok := t.FieldByName(field)
		if !ok {
			return false
		}
		t = f.Type
	}
	return t.Name() == "onloadFD" && os.Getenv("ONLOAD") != "off"
}
