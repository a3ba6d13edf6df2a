// Package cmd holds the two programs, repld and replctl, and the tests of their
// contract: scripts that run both as an operator does, under testdata/script.
//
// It stands above the data's way. The programs themselves only map exit codes;
// what they do is in cmd/internal, so that tests can run both in one binary.
package cmd
