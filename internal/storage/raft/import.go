package raft

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	old "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"arca/internal/errs"
	"arca/internal/storage/raft/wal"
)

// oldLogDir is where versions of before had the log, by hashicorp/raft-wal.
const oldLogDir = "log"

// termKey is of the value in which raft keeps the term that it is in.
const termKey = "CurrentTerm"

// raftKeys are the values that raft keeps beside its log, in the order in which they are set: there is no vote in a term that has passed, and the last vote may be
// of an earlier term than the node is in.
var raftKeys = [...]string{"LastVoteTerm", "LastVoteCand", termKey}

// importLog takes over the log of a version of before into dir, which is there then as a whole or not at all. It leaves a file where that version had its
// log: started again, it would find none, and begin one with neither entries nor votes.
func (s *Store) importLog(dir string) error {
	from := filepath.Join(s.cfg.Dir, oldLogDir)
	err := s.takeOverLog(from, dir)
	if err == nil {
		err = syncDir(s.fs, s.cfg.Dir)
	}
	if err == nil {
		err = s.fs.RemoveAll(from + takenSuffix)
	}
	if err != nil && errs.KindOf(err) == errs.Internal {
		return errs.New(errs.Unavailable, "take over the raft log %q: %w", from, err)
	}
	return err
}

// takenSuffix is behind the name of an old log from when its copy is durable until that is in its place.
const takenSuffix = ".taken"

func (s *Store) takeOverLog(from, dir string) error {
	is := func(path string) (folder, there bool) {
		info, err := os.Stat(path)
		return err == nil && info.IsDir(), !errors.Is(err, os.ErrNotExist)
	}
	folder, there := is(from)
	_, done := is(dir)
	_, taken := is(from + takenSuffix)
	temp := dir + ".tmp"
	switch {
	case folder && (done || taken):
		return errs.New(errs.Failed, "an older version of arca has run in %q since this one took its raft log over: it had neither the entries nor the votes of before, and what it wrote is not in this log. %s", s.cfg.Dir, wal.Advice)
	case folder:
		if err := s.copyAnew(from, temp); err != nil {
			return err
		}
		if err := s.fs.Rename(from, from+takenSuffix); err != nil {
			return err
		}
		there = false
	case taken && !done: // a crash came between
		if err := s.copyAnew(from+takenSuffix, temp); err != nil {
			return err
		}
	}
	if !there {
		if err := s.leaveWord(from); err != nil {
			return err
		}
	}
	if done || !folder && !taken {
		return nil
	}
	return s.fs.Rename(temp, dir)
}

// leaveWord leaves a file in the place of an old log, durably.
func (s *Store) leaveWord(path string) error {
	f, err := s.fs.Create(path, writeCategory)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("The raft log of this node is in the folder wal. Versions of arca that had it here cannot read it, and must not run on this folder.\n"))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(s.fs, s.cfg.Dir)
	}
	return err
}

// copyAnew is copyLog, also where a copy was begun before.
func (s *Store) copyAnew(from, to string) error {
	if err := s.fs.RemoveAll(to); err != nil {
		return err
	}
	return s.copyLog(from, to)
}

// copyLog copies votes and entries into a new log in the folder to.
func (s *Store) copyLog(from, to string) (err error) {
	meta := &metadb.BoltMetaDB{}
	source, err := old.Open(from, old.WithLogger(NewLogger(s.log)), old.WithMetaStore(meta))
	if err != nil {
		return errors.Join(err, meta.Close())
	}
	defer func() { err = errors.Join(err, source.Close(), meta.Close()) }()
	log, err := wal.Open(wal.Config{FS: s.fs, Dir: to, Log: s.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	votes, err := wal.OpenVotes(s.fs, to, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, votes.Close()) }()
	for _, key := range raftKeys {
		value, err := source.Get([]byte(key))
		if err == nil && value != nil {
			err = votes.Set([]byte(key), value)
		}
		if err != nil {
			return err
		}
	}
	if err := reachVote(votes); err != nil {
		return err
	}
	return copyEntries(source, log)
}

// reachVote has the term not be behind that of the last vote: versions of before could note an earlier one beside it.
func reachVote(votes *wal.Votes) error {
	term, err := votes.GetUint64([]byte(termKey))
	voted, err2 := votes.GetUint64([]byte("LastVoteTerm"))
	if err = errors.Join(err, err2); err != nil || term >= voted {
		return err
	}
	return votes.SetUint64([]byte(termKey), voted)
}

// copiedBytes is how much of a log is written at once.
const copiedBytes = 1 << 20

func copyEntries(from, to raft.LogStore) error {
	first, err := from.FirstIndex()
	if err != nil {
		return err
	}
	last, err := from.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	var some []*raft.Log
	bytes := 0
	for i := first; i <= last; i++ {
		log := new(raft.Log)
		if err := from.GetLog(i, log); err != nil {
			return err
		}
		some, bytes = append(some, log), bytes+len(log.Data)
		if bytes < copiedBytes && i < last {
			continue
		}
		if err := to.StoreLogs(some); err != nil {
			return err
		}
		some, bytes = nil, 0
	}
	return nil
}
