// Package gigabit drives the rings of Intel's gigabit controllers, which differ in
// little: receive descriptors of 16 bytes that tell of checksums, and transmit
// descriptors with contexts for checksums and segmentation. The 82574 calls them
// extended (its datasheet, sections 7.1 and 7.2), the 82576 advanced (likewise).
package gigabit
