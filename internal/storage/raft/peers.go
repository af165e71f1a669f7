package raft

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A Peer is one node of the cluster.
type Peer struct {
	ID, Address string
	Voter       bool
	Leader      bool
}

// peerTimeout bounds how long a change of the cluster may wait to begin.
const peerTimeout = 10 * time.Second

// Peers lists the nodes, as this one knows them.
func (s *Store) Peers() []Peer {
	r := s.running.Load()
	var conf raft.Configuration
	leader := ""
	if r != nil {
		conf = r.raft.GetConfiguration().Configuration()
		leader, _ = s.Leader()
	} else {
		s.mu.Lock()
		conf = s.peers.conf
		s.mu.Unlock()
	}
	list := make([]Peer, 0, len(conf.Servers))
	for _, srv := range conf.Servers {
		list = append(list, Peer{
			ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter, Leader: leader != "" && string(srv.ID) == leader,
		})
	}
	return list
}

// Add makes a node a member, or gives a member another address. A member keeps its vote; a new one has none until Promote. A member that had the
// address before is removed, but not this node: the caller knows that it has lost its folder, or is gone.
func (s *Store) Add(id, address string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := s.running.Load()
	if r == nil || !s.Leading() {
		return errVoid
	}
	for _, p := range s.Peers() {
		if p.ID == id || p.Address != address {
			continue
		}
		if p.ID == s.cfg.NodeID {
			return taken(address, p.ID)
		}
		if err := explain(r.change(func() raft.IndexFuture { return r.raft.RemoveServer(raft.ServerID(p.ID), 0, peerTimeout) })); err != nil {
			return err
		}
	}
	return s.place(r, id, address)
}

// Move gives a member another address. One that is none stays so: it may have been removed since the caller looked. The error is of the kind Conflict
// where another member has the address, which it keeps.
func (s *Store) Move(id, address string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := s.running.Load()
	if r == nil || !s.Leading() {
		return errVoid
	}
	member := false
	for _, p := range s.Peers() {
		switch {
		case p.ID == id:
			member = true
		case p.Address == address:
			return taken(address, p.ID)
		}
	}
	if !member {
		return nil
	}
	return s.place(r, id, address)
}

// Vacate takes an address from the member that has it, if that is not id: the caller knows that id is there, and that one is not. The other stays a
// member, with its vote, at no address (see AtNoAddress), until it tells where it is.
func (s *Store) Vacate(address, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := s.running.Load()
	if r == nil || !s.Leading() {
		return errVoid
	}
	for _, p := range s.Peers() {
		if p.Address == address && p.ID != id {
			return s.place(r, p.ID, AtNoAddress+p.ID)
		}
	}
	return nil
}

// AtNoAddress begins what stands in place of the address of a member whose address another has now; its id follows. Nobody can dial it, since it names
// no port, and no two members have the same, which raft would not take.
const AtNoAddress = "moved/"

func taken(address, by string) error {
	return errs.New(errs.Conflict, "the address %q is that of the member %q", address, by)
}

// place gives a node, which becomes a member if it is none, an address. The caller holds changing.
func (s *Store) place(r *running, id, address string) error {
	for _, p := range s.Peers() {
		switch {
		case p.ID == id && p.Address == address:
			return nil
		case p.ID == id && p.Voter:
			return explain(r.change(func() raft.IndexFuture {
				return r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, peerTimeout)
			}))
		}
	}
	return explain(r.change(func() raft.IndexFuture {
		return r.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, peerTimeout)
	}))
}

// Promote gives a member a vote. One that is none gets none.
func (s *Store) Promote(id string) error {
	return s.change(id, func(p Peer) bool { return !p.Voter }, func(r *raft.Raft, p Peer) raft.IndexFuture {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(p.Address), 0, peerTimeout)
	})
}

// Demote takes a member's vote. One that has none keeps none.
func (s *Store) Demote(id string) error {
	return s.change(id, func(p Peer) bool { return p.Voter }, func(r *raft.Raft, _ Peer) raft.IndexFuture {
		return r.DemoteVoter(raft.ServerID(id), 0, peerTimeout)
	})
}

// Remove ends a node's membership; that of a stranger ends at once.
func (s *Store) Remove(id string) error {
	return s.change(id, func(Peer) bool { return true }, func(r *raft.Raft, _ Peer) raft.IndexFuture {
		return r.RemoveServer(raft.ServerID(id), 0, peerTimeout)
	})
}

// change has raft change a member. Nothing happens where the node is none, or is not to be changed.
func (s *Store) change(id string, is func(Peer) bool, how func(*raft.Raft, Peer) raft.IndexFuture) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := s.running.Load()
	if r == nil || !s.Leading() {
		return errVoid
	}
	for _, p := range s.Peers() {
		if p.ID == id && is(p) {
			return explain(r.change(func() raft.IndexFuture { return how(r.raft, p) }))
		}
	}
	return nil
}

// Nudge has this node, if it leads, send to all members now what they lack, as one of them is there again. To one that did not answer it would send when that has answered
// a heartbeat, of which those that did not have one every two seconds.
func (s *Store) Nudge() {
	if r := s.running.Load(); r != nil {
		r.inlet.returns.all()
		r.renew()
	}
}

func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return errs.New(errs.NotActive, "raft: %w", err)
	case errors.Is(err, raft.ErrLeadershipLost):
		return errs.New(errs.Unavailable, "another node became the active one meanwhile; look whether the nodes are those that you want: %w", err)
	}
	return errs.New(errs.Unavailable, "raft: %w", err)
}

// Raft returns what autopilot works on; nil while stopped.
func (s *Store) Raft() *raft.Raft {
	if r := s.running.Load(); r != nil {
		return r.raft
	}
	return nil
}

// peersFile is where an operator writes which nodes are left, after most voters were lost for good.
const peersFile = "peers.json"

// WritePeers has the node whose store lies in dir, and which does not run, be the only one of its cluster when it is started next. Whatever is
// in its log counts as committed then.
func WritePeers(dir string, p Peer) error {
	text, err := json.MarshalIndent([]map[string]any{{"id": p.ID, "address": p.Address, "non_voter": false}}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, peersFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the operator's folder
	if err == nil {
		_, err = f.Write(append(text, '\n'))
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = os.Rename(path+".tmp", path)
		}
	}
	if err == nil {
		err = syncDir(vfs.Default, dir)
	}
	if err != nil {
		return errs.New(errs.Unavailable, "write %q: %w", path, err)
	}
	return nil
}

// left reads peers.json; false where there is none.
func (s *Store) left() (who raft.Configuration, is bool, err error) {
	path := filepath.Join(s.cfg.Dir, peersFile)
	if _, err := os.Stat(path); s.cfg.Memory || errors.Is(err, os.ErrNotExist) {
		return who, false, nil
	}
	if who, err = raft.ReadConfigJSON(path); err != nil {
		return who, true, errs.New(errs.Invalid, "read %q: %w", path, err)
	}
	for _, srv := range who.Servers {
		if string(srv.ID) == s.cfg.NodeID {
			return who, true, nil
		}
	}
	return who, true, errs.New(errs.Invalid, "%q does not list this node, %q", path, s.cfg.NodeID)
}

// NextPeers lists the nodes with which a node begins that is not started yet: those in peers.json, if there is that file; left
// says so.
func (s *Store) NextPeers() (list []Peer, left bool, err error) {
	who, left, err := s.left()
	if err != nil || !left {
		return s.Peers(), left, err
	}
	for _, srv := range who.Servers {
		list = append(list, Peer{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter})
	}
	return list, true, nil
}

// recover makes the nodes in peers.json the cluster, if there is that file. Entries of the log that were never committed
// are taken for committed: nobody is left who could tell.
func (s *Store) recover(t raft.Transport) error {
	who, is, err := s.left()
	if err != nil || !is {
		return err
	}
	if err := s.takeOver(who); err != nil {
		return err
	}
	s.log.Warn("the nodes in peers.json are the cluster now", "nodes", len(who.Servers), "address", string(t.LocalAddr()))
	path := filepath.Join(s.cfg.Dir, peersFile)
	err = s.fs.Remove(path)
	if err == nil {
		err = syncDir(s.fs, s.cfg.Dir) // a crash must not bring it back: the node may have others with it by then
	}
	if err != nil {
		return errs.New(errs.Unavailable, "remove %q: %w", path, err)
	}
	return nil
}

func (s *Store) takeOver(who raft.Configuration) error {
	if err := s.reachTerm(len(who.Servers) == 1); err != nil {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	at := s.position()
	for i := at.index + 1; i <= last; i++ {
		var log raft.Log
		if err := s.logs.GetLog(i, &log); err != nil {
			return errs.New(errs.Unavailable, "read entry %d of the raft log: %w", i, err)
		}
		if log.Type == raft.LogCommand {
			fsm{s}.Apply(&log)
			if err := s.broken.get(); err != nil {
				return err
			}
		}
		at.index, at.term = log.Index, log.Term
	}
	at.batch = s.position().batch
	p := peers{at.index, who}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.state.Load().Replay(storage.Batch{at.op(), p.op()}, true); err != nil {
		return err
	}
	s.moved(at, &p)
	s.reached(at.index)
	if last == 0 {
		return nil
	}
	if err := s.logs.DeleteRange(first, last); err != nil {
		return errs.New(errs.Unavailable, "begin the raft log anew: %w", err)
	}
	return nil
}

// reachTerm has raft begin in a term no earlier than one of which there are entries: it has forgotten its own where the votes were lost, or are from an earlier
// time. Such a node can only be the cluster alone: see withoutVotes.
func (s *Store) reachTerm(alone bool) error {
	_, least, err := s.newest()
	if err != nil {
		return err
	}
	term, err := s.stable.GetUint64([]byte(termKey))
	if err == nil && term < least && !alone {
		return errs.New(errs.Invalid, notAlone, peersFile, errOldVotes(least, term))
	}
	if err == nil && term < least {
		err = s.stable.SetUint64([]byte(termKey), least)
	}
	if err != nil {
		return errs.New(errs.Unavailable, "note the raft term: %w", err)
	}
	return nil
}
