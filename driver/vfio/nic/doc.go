// Package nic holds what drivers of NICs mapped by VFIO have in common: the
// device's life, memory and steering (Base), and the parts of a queue that know no
// ring (Queue): faults, counters and waiting.
package nic
