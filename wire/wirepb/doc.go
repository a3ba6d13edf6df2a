// Package wirepb is the generated code for the message bodies of package wire,
// its only user. wire.proto is the source and says what each field is.
package wirepb

//go:generate protoc --go_out=. --go_opt=paths=source_relative wire.proto
