// Package torture does to a process what else only broken machines do: it has the disk of the raft storage fail, and moves the clock of the whole process. It is in no
// program but the one that `make torture` builds, with the tag of that name.
//
// What is to be done stands in a file that the environment names (Variable), as words: "syncs-fail", "writes-fail", "syncs-hang" (they do not come to their end before that is gone), "day=-26h" (how far the time of day is from the
// machine's), "rate=0.8" (how fast the process' clocks run, that of Go's runtime and of its timers, too). It is read again and again; who changes it renames another into its place.
//
// A sync that fails loses what it was to make durable, or does not, as it comes: a system that could not write a page may have forgotten it when it is
// read the next time, and says nothing of it again. That is so for the raft log and the votes, which are written at offsets; of other files only the sync fails.
package torture
