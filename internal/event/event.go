// Package event has the names of what the engine tells operators on its control path.
// Each is the field "event" of a log entry, and stays the same from release to release;
// the messages are for people, and may change. docs/events.md has the fields of each.
package event

import "go.uber.org/zap"

// Name is an event's.
type Name string

// Events of interfaces.
const (
	InterfaceTaken    Name = "interface.taken"
	InterfaceRefused  Name = "interface.refused"
	InterfaceLost     Name = "interface.lost"
	InterfaceAlone    Name = "interface.alone"
	QueuesRefused     Name = "queues.refused"
	NothingTaken      Name = "interface.none"
	AddressConflict   Name = "address.conflict"
	AddressLost       Name = "address.lost"
	AddressMissing    Name = "address.missing"
	LinkDown          Name = "link.down"
	LinkUp            Name = "link.up"
	GroupNotAnnounced Name = "group.not-announced"
)

// Events of sockets.
const (
	PathChosen  Name = "path.chosen"
	PathKernel  Name = "path.kernel"
	SocketDeaf  Name = "socket.deaf"
	SocketMoved Name = "socket.moved"
	SocketError Name = "socket.error"
)

// Events of the whole engine.
const (
	CounterHigh   Name = "counter.high"
	NoGuardian    Name = "guardian.none"
	NoICMP        Name = "icmp.none"
	NoDetour      Name = "detour.none"
	NoInlet       Name = "inlet.none"
	BrokerRefused Name = "broker.refused"
	BrokerPort    Name = "broker.port"
	BrokerNoTable Name = "broker.no-table"
	BrokerGone    Name = "broker.gone"
	BrokerBack    Name = "broker.back"
	BrokerUntold  Name = "broker.untold"
	TapMissing    Name = "tap.missing"
)

// Field is what a log entry of the event has.
func (n Name) Field() zap.Field { return zap.String("event", string(n)) }
