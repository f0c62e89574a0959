// Package programs runs public libraries as they are, each over the kernel's
// sockets and over onload's: the same test with both is the comparison. It is a
// module of its own, so that their dependencies stay out of the library's go.mod.
package programs
