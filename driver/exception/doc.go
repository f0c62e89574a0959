// Package exception puts a TAP device of the kernel's beside a NIC that no driver of the
// kernel's has. The kernel is the host on that link: the TAP has the NIC's MAC, and
// addresses, ARP, neighbour discovery, DHCP and all else that a kernel does are the
// kernel's. What the steering names is the stack's; all other packets go to the TAP, and
// what the kernel sends by the TAP leaves by the NIC.
package exception
