// Package igb drives Intel's 82576 gigabit controller, mapped into the process by
// VFIO. Sections and names of registers are those of "Intel 82576 EB Gigabit Ethernet
// Controller Datasheet": chapter 7 on the rings and interrupts, 8 on registers.
package igb
