// Package layers has no code: its test holds the rules about how the packages of
// this module may depend on each other, and a few more that a compiler can't. A
// rule that fails says why it is there.
package layers
