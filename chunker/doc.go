// Package chunker is step 3 of 6 on the data's way (watch → capture → chunker →
// journal → ship → apply): it cuts the content of a file into chunks where the
// content itself says so, so that equal stretches of data become equal chunks
// wherever they stand.
package chunker
