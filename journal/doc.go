// Package journal is the log of a group. Step 4 of 6 on the data's way: watch →
// capture → chunker → journal → ship → apply.
package journal
