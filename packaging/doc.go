// Package packaging has no code: its folder is what a Debian package is made of (make
// deb), and its test holds together what has to say the same: the example
// configuration and the manual page, the unit, its drop-ins, and docs/INSTALL.md.
package packaging
