// Package view shows what package control tells to people at a terminal: the
// table of a status, the line of a seed in progress. Both command-line programs
// use it.
//
// It stands beside the data's way. Everything here is a function of its arguments
// and of the moment it is given; nothing is promised about the exact words, which
// scripts must not read: they have --json.
//
// A [SeedMeter] and a [Line] are for one goroutine each.
package view
