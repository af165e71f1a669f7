// Package storage gives transactions over a tiny key-value Backend.
//
// A DB runs a View on a durable state that does not change under it and waits for nobody, and an Update optimistically: it
// reads a snapshot, notes what it has read and buffers what it writes; when its function has ended it is checked against
// everything committed since, in one order, and run again if something it read has changed. Updates that arrive while a
// batch is on its way to disk build on it and form the next batch, so all that wait share one Apply; none is acknowledged
// before it and all it built on are durable. So transactions are strictly serializable, one by one in the order of the
// commit feed, which Watch tells.
//
// A Cache keeps decoded objects and shows in each transaction exactly what that transaction would have read.
//
// Backends: storage/pebble (in memory and in a folder) and others that pass storagetest.TestBackend. A Backend has one
// interface and no optional powers, so that a wrapper (the barrier's encryption, for one) loses none; one without snapshots
// is lifted by WithSnapshots.
//
// The invariants, and why it is done this way, are in DESIGN.md beside this file.
package storage
