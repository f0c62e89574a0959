// Package routediff holds the differential test of routes: hosts with random
// links, addresses, rules, routes and settings, on which sockets of the kernel and
// of onload send the same, and the packets and errors are compared. See
// TestRandomRoutes and the cases in testdata.
package routediff
