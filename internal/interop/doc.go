// Package interop holds the tests of onload against the world: kernel
// sockets, unmodified programs, and what administrators do to interfaces. All
// traffic is between namespaces that the tests make.
package interop
