// Package harness holds what every benchmark needs around its measurement:
// processors, child processes with orders, namespaces, and a record of the machine.
package harness
