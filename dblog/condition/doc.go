// Package condition keeps what is wrong with a database, or with its replica, as its
// engine's last tries have found: what [dblog.Source] and [dblog.Replica] call Health.
// Each condition is there once, with the newest text, until a try that shows the
// opposite takes it back. Engines say which condition an error amounts to; [CodeOf]
// knows the errors that all of them have.
package condition
