package guardian

import (
	"fmt"
	"os"
	"strings"
)

// firstNamespace is the first PID namespace (PROC_PID_INIT_INO of linux/proc_ns.h): its first
// process ends with the machine.
const firstNamespace = "pid:[4026531836]"

// mayEnd says why the guardian may end with the process that it guards, before it has told
// anybody; "" if it does not. The first process of a PID namespace ends all others there.
// That of a container (docker run --init, tini) ends as soon as the process ends that it
// has started.
func mayEnd() string {
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns == firstNamespace || os.Getppid() != 1 {
		return ""
	}
	name, _ := os.ReadFile("/proc/1/comm")
	first := strings.TrimSpace(string(name))
	if first == "systemd" || first == "init" {
		return "" // it stays, whichever of its children ends
	}
	return fmt.Sprintf("the first process of the container (%s) has started this one: if it ends too, the guardian ends with it", first)
}
