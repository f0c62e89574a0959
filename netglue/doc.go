// Package netglue joins the standard library that `onload build` compiles with to
// internal/engine. It is empty in any other build, and no program imports it: see
// cmd/onload and internal/overlay.
package netglue
