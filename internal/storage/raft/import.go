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

// raftKeys are the values that raft keeps beside its log.
var raftKeys = [...]string{termKey, "LastVoteTerm", "LastVoteCand"}

// importLog takes over the log of a version of before into dir, which is there then as a whole or not at all.
func (s *Store) importLog(dir string) error {
	from := filepath.Join(s.cfg.Dir, oldLogDir)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		temp := dir + ".tmp"
		if err = s.fs.RemoveAll(temp); err == nil {
			err = s.copyLog(from, temp)
		}
		if err == nil {
			err = s.fs.Rename(temp, dir)
		}
	}
	if err == nil {
		err = syncDir(s.fs, s.cfg.Dir)
	}
	if err == nil {
		err = s.fs.RemoveAll(from)
	}
	if err != nil {
		return errs.New(errs.Unavailable, "take over the raft log %q: %w", from, err)
	}
	return nil
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
	return copyEntries(source, log)
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
