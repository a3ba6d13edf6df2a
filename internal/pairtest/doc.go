// Package pairtest judges whether files and a database stand at one instant. It stands
// beside the way of the data, and only tests import it.
//
// A [Load] has writers that work as an application does: each operation writes one to
// three files and, in one transaction, a row for each of them with the file's digest,
// in two tables; and it removes the files and the rows of an older operation. The
// order is drawn for each: files first, then the rows, or the rows first, then the
// files. Half of the writers commit asynchronously. A writer's operations are numbered
// and follow one another without overlap.
//
// [Check] looks at a tree and at the rows, both standing still, and finds for each
// writer the newest operation of which there is any trace. At one instant
//
//   - every older operation is there whole: each row with its file, which has the
//     row's digest, and each file with its row; and what is to be removed is gone;
//   - of the newest the rows are there all or none, in both tables;
//   - if it was files first and there are rows, all its files are there;
//   - if it was rows first and there is any of its files, all its rows are there.
//
// These hold at any instant, whatever the writers are doing, and no weaker rule is
// taken: the one operation that is in flight must be there in an order in which the
// writer did it. What is drawn follows from the seed, so the checker needs no log of
// what was done.
//
// A [Checker] that looks again and again reads only what has changed. A [Process] is a load
// in a process of its own, which can be frozen and killed as an application can.
//
// It does not promise to find two states that are apart by less than what the writers
// did between them: a load of some hundred operations a second is meant.
package pairtest
