// Package daemon wires the packages on the data's way together and runs them: one
// daemon is one node.
package daemon
