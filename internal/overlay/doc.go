// Package overlay makes the standard library that `onload build` compiles programs
// with: Go's own, in whose package net a descriptor may be a socket of ours.
//
// Patch changes the files of net by rules on their syntax trees. Each rule checks
// that it met what it expects, so that a release of Go that does not fit is an error
// with the rule's name, never a program that does something else.
//
// Root makes a GOROOT of symbolic links to the real one, in which only these files,
// the added ones (folder std) and the packages of this module are its own. The Go
// command then runs with GOROOT set. Nothing is written into the real GOROOT or into
// the user's tree, and packages that do not import net share their build cache with
// plain builds.
package overlay
