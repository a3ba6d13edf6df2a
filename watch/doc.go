// Package watch is step 1 of 6 on the data's way: watch → capture → chunker →
// journal → ship → apply. It turns the kernel's events into a coalesced dirty set
// and knows the instant up to which that set is complete.
package watch
