// Package guides holds no code: its test runs the commands of the guides in docs/deploy.
package guides
