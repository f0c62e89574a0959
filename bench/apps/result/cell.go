package result

import "fmt"

// The conditions under which the ends run.
const (
	Cores   = "cores"   // a processor each
	OneCore = "onecore" // all on the same processor
	Free    = "free"    // wherever the kernel puts them
	Quota   = "quota"   // each in a cgroup that may use a fifth of a processor
)

// Conditions lists them in the order of the report.
func Conditions() []string { return []string{Cores, OneCore, Free, Quota} }

// The loads.
const (
	Closed = "closed"  // every connection asks again when it has its answer
	Open10 = "open10%" // Poisson arrivals at a share of the kernel's capacity
	Open50 = "open50%"
	Open80 = "open80%"
	EachMS = "each-ms" // a request each millisecond, on one connection
	Idle   = "idle"    // connections without a request
)

// Loads lists them in the order of the report.
func Loads() []string { return []string{Closed, Open10, Open50, Open80, EachMS, Idle} }

// Cell is a program under a condition and a load. Every rung runs it in every
// round.
type Cell struct {
	Program   string
	Condition string
	Load      string
	Conns     int
}

func (c Cell) String() string {
	return c.Program + ", " + c.Where()
}

// Where names the cell without its program.
func (c Cell) Where() string {
	return fmt.Sprintf("%s, %s, %d conn.", c.Condition, c.Load, c.Conns)
}
