// Package engine decides who carries a connection: one of our stacks, or the
// kernel. It owns the stacks, their interfaces and devices, and the mirror of
// the kernel's addresses and routes.
//
// It speaks netip addresses and errnos and knows no type of package net, which
// a test enforces: its first client is package onload (folder net), the second
// is to be the standard library's own net package.
//
// A client asks once, hands the answer down, and opens kernel sockets itself for
// whatever the answer leaves to the kernel:
//
//   - to connect: Engine.Way, then Engine.DialTCP or DialUDP with the Way;
//   - to bind: Engine.Twin reports whether a kernel socket belongs to the address,
//     Engine.Shards returns the stacks; then Engine.Listen or Bind.
package engine
