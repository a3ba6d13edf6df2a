// Package e2e holds no code but the tests of the whole way of the data, over real
// processes: watch → capture → chunker → journal → ship ⇒ ship → journal → apply.
//
//   - TestModel runs random operations on a primary's tree while both sides are
//     killed, the link is cut and applying is paused, and then wants equal trees.
//   - TestRefusals and its neighbours give the programs bad input and broken
//     machines, and want one clear message, the exit code, and the trees untouched.
//   - TestRoles… change roles while a client writes: each node has a service, which its
//     hooks start and stop (this program itself), and two network namespaces joined by a
//     cable stand for the machines. A checker wants one writer at all times, and only what
//     lies behind a promoted barrier lost, and kept in a salvage.
//   - TestRolesStorm… change them at random, with an etcd on a third machine, too, while
//     machines end, daemons are killed at fault points of plans (package daemon, the build tag
//     faultpoints), and the network is divided (make soak-roles).
//   - TestProof follows a tree of real software while a compiler and git work in it;
//     it runs with REPLD_PROOF set (make proof).
//
// The programs are built once with the race detector. A random test prints its
// seed; go test ./internal/e2e -run Model -seed N repeats it. REPLD_SOAK=DURATION
// lets it run that long, TestRolesCutover too; TestRolesPartitions runs only then.
package e2e
