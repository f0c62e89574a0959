package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// complaints are the lines of the kernel's log that a driver must not provoke:
// faults of the IOMMU, warnings and bugs.
func complaints() (found []string) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return []string{"/dev/kmsg: " + err.Error()}
	}
	defer unix.Close(fd)
	b := make([]byte, 8192)
	for len(found) < 20 {
		n, err := unix.Read(fd, b)
		if errors.Is(err, unix.EPIPE) {
			continue // overwritten: go on with the oldest that is left
		}
		if err != nil || n <= 0 {
			break // EAGAIN: that was all
		}
		// "priority,sequence,time,flags;text", then lines of a dictionary.
		_, text, _ := strings.Cut(string(b[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		if isComplaint(text) {
			found = append(found, text)
		}
	}
	return found
}

// isComplaint leaves out what a slow host causes: processors that stand still, and
// transmit queues that are not emptied in time.
func isComplaint(text string) bool {
	for _, slow := range []string{"lockup", "dev_watchdog", "hogged CPU"} {
		if strings.Contains(text, slow) {
			return false
		}
	}
	return strings.Contains(text, "WARNING: ") || strings.HasPrefix(text, "BUG: ") ||
		strings.Contains(text, "DMAR: [") && strings.Contains(text, "fault") ||
		strings.Contains(text, "virtio_iommu") && strings.Contains(text, "fault")
}
