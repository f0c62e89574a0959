// Package e1000e drives Intel's 82574 gigabit controller, mapped into the process by
// VFIO. Sections and names of registers are those of "Intel 82574 GbE Controller
// Family Datasheet": chapter 4 on initialization, 7 on the rings and interrupts, 10 on
// registers.
package e1000e
