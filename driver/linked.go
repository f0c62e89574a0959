package driver

// Linked is a Device whose link no kernel reports.
type Linked interface {
	// LinkUp reports whether the link is up. Anybody may call it at any time.
	LinkUp() bool
	// OnLink has call run, on a goroutine of the device's, after LinkUp may have changed
	// or all queues broke. A call may be under way when Close returns; there are none
	// later.
	OnLink(call func())
}
