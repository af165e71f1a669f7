package raft

import "github.com/hashicorp/raft"

// Keys of raft's library for its last vote.
const (
	voteTermKey      = "LastVoteTerm"
	voteCandidateKey = "LastVoteCand"
)

// A ballot is where raft notes its votes: first the term of one, and then to whom it was given. If the second cannot be written, as the disk is full or
// the process ends, who had the vote before has that of the later term, too, and raft does not look at its log again. So a ballot writes to whom first. As
// long as the term is missing that says nothing: an earlier term is over, as raft notes the one in which it votes before.
//
// It is used by raft's own goroutine alone.
type ballot struct {
	raft.StableStore

	term uint64
	open bool // term is noted with the candidate
}

// SetUint64 implements raft.StableStore.
func (b *ballot) SetUint64(key []byte, v uint64) error {
	if string(key) != voteTermKey {
		return b.StableStore.SetUint64(key, v)
	}
	b.term, b.open = v, true
	return nil
}

// Set implements raft.StableStore.
func (b *ballot) Set(key, v []byte) error {
	err := b.StableStore.Set(key, v)
	if string(key) != voteCandidateKey || !b.open {
		return err
	}
	b.open = false
	if err != nil {
		return err
	}
	return b.StableStore.SetUint64([]byte(voteTermKey), b.term)
}
