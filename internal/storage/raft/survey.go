package raft

import (
	"errors"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// A Survey is how much of a cluster's log a node has that takes no part at present.
type Survey struct {
	Index, Term uint64 // the newest entry, of the log or of the state
	Applied     uint64 // the entry that the state is after: at most Index
	Voteless    bool   // its votes are lost, damaged or from an earlier time: it can only go on as the whole cluster
	Restored    bool   // the state is a snapshot that was restored, of which the node does not know whether the cluster has taken it
	Peers       []Peer // the newest configuration that the node knows of, committed or not, as raft itself takes it
}

// OpenSurvey opens the folder of a node whose server does not run, and surveys it. The Store is to be closed. Unlike Open it makes no store: where
// there is none the error is of the kind Invalid, and where a server runs Unavailable; and it looks at a node, too, whose votes are lost. What Open mends and takes over it does, too.
func OpenSurvey(dir, id string, log *slog.Logger) (*Store, Survey, error) {
	switch name, err := currentState(vfs.Default, dir); {
	case err != nil:
		return nil, Survey{}, err
	case name == "":
		return nil, Survey{}, errs.New(errs.Invalid, "the folder %q holds no raft storage", dir)
	}
	s, err := Open(Config{Dir: dir, NodeID: id, Log: log, survey: true})
	if err != nil {
		return nil, Survey{}, err
	}
	v, err := s.survey()
	if err != nil {
		return nil, Survey{}, errors.Join(err, s.Close())
	}
	return s, v, nil
}

func (s *Store) survey() (Survey, error) {
	at := s.position()
	v := Survey{Applied: at.index, Restored: s.Restored(), Voteless: s.stable == nil}
	var err error
	if v.Index, v.Term, err = s.newest(); err != nil {
		return v, err
	}
	if s.stable != nil {
		term, err := s.stable.GetUint64([]byte(termKey))
		if err != nil {
			return v, err
		}
		v.Voteless = term < v.Term
	}
	s.mu.Lock()
	conf := s.peers.conf
	s.mu.Unlock()
	for i := at.index + 1; i <= v.Index; i++ {
		var log raft.Log
		if err := s.logs.GetLog(i, &log); err != nil {
			return v, errs.New(errs.Unavailable, "read entry %d of the raft log: %w", i, err)
		}
		if log.Type == raft.LogConfiguration {
			if conf, err = decodeConfiguration(log.Data); err != nil {
				return v, err
			}
		}
	}
	for _, srv := range conf.Servers {
		v.Peers = append(v.Peers, Peer{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter})
	}
	return v, nil
}

// newest is the newest entry of a node that takes no part: that of the log, unless this one ends before the state or contradicts it (see
// mendLog).
func (s *Store) newest() (index, term uint64, err error) {
	at := s.position()
	last, err := s.logs.LastIndex()
	if err != nil {
		return 0, 0, errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	if last <= at.index {
		return at.index, at.term, nil
	}
	var log raft.Log
	first, err := s.logs.FirstIndex()
	if err == nil && first > at.index+1 && s.isFormer(last) {
		return at.index, at.term, nil
	}
	if err == nil && at.index >= first && at.index > 0 {
		if err = s.logs.GetLog(at.index, &log); err == nil && log.Term != at.term {
			return at.index, at.term, nil
		}
	}
	if err == nil {
		err = s.logs.GetLog(last, &log)
	}
	if err != nil {
		return 0, 0, errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	return last, log.Term, nil
}
