// Package testfs gives tests the machine that they need: file systems of a kind on
// loop devices, privileges, programs. It stands beside the way of the data, and
// only tests import it.
//
//   - What a test needs and the machine lacks ends the test: as a skip that says
//     what to install or whom to run as, and with CI=true as a failure, so that
//     nothing goes untested where everything must be there.
//   - A file system that is mounted here is empty, keeps nothing back for root (what
//     is full is full), and is gone when the test ends. It can't go while something
//     is open on it: then the test fails, because a descriptor leaked, and the file
//     system goes as soon as it is let go.
//
// All functions must be called from the goroutine that runs the test, as
// [testing.TB.FailNow] demands. Different tests may use the package at once.
//
// It does not promise the same file system features everywhere: these are what the
// mkfs of the machine makes by default.
package testfs
