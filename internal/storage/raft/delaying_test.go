package raft_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	hraft "github.com/hashicorp/raft"
)

// A delaying transport has some of what its member sends come late, when the member has given it up, while member.late says so.
type delaying struct{ lagging }

var errGivenUp = errors.New("no answer in time")

// late has a message come late, one of so many, and reports whether it does.
func (d delaying) late(oneOf int, send func()) bool {
	d.m.delays.Lock()
	defer d.m.delays.Unlock()
	if !d.m.late.Load() || rand.IntN(oneOf) > 0 {
		return false
	}
	by := rand.N(4 * time.Second)
	d.m.underway.Go(func() {
		<-time.After(by) // of the bubble that the test runs in
		send()
	})
	return true
}

const oneOf = 12

// How a node fails that is told to take over.
const (
	refuses = iota + 1
	hangs
)

// punctual has no more messages come late, and waits for those that do.
func (m *member) punctual() {
	m.delays.Lock()
	m.late.Store(false)
	m.delays.Unlock()
	m.underway.Wait()
}

// AppendEntries implements raft.Transport.
func (d delaying) AppendEntries(id hraft.ServerID, to hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	own := *args                                                                                             // the author goes on with it
	if d.late(oneOf, func() { _ = d.lagging.AppendEntries(id, to, &own, &hraft.AppendEntriesResponse{}) }) { // nobody waits for it
		return errGivenUp
	}
	return d.lagging.AppendEntries(id, to, args, resp)
}

// RequestVote implements raft.Transport.
func (d delaying) RequestVote(id hraft.ServerID, to hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	own := *args
	if d.late(oneOf, func() { _ = d.lagging.RequestVote(id, to, &own, &hraft.RequestVoteResponse{}) }) { // likewise
		return errGivenUp
	}
	return d.lagging.RequestVote(id, to, args, resp)
}

// TimeoutNow implements raft.Transport.
func (d delaying) TimeoutNow(id hraft.ServerID, to hraft.ServerAddress, args *hraft.TimeoutNowRequest, resp *hraft.TimeoutNowResponse) error {
	switch how, _ := d.m.untold.Load(string(id)); how {
	case hangs:
		<-time.After(10 * time.Second) // of the bubble that the test runs in
		return errGivenUp
	case refuses:
		return errGivenUp
	}
	own := *args
	if d.late(oneOf, func() { _ = d.lagging.TimeoutNow(id, to, &own, &hraft.TimeoutNowResponse{}) }) { // likewise
		return errGivenUp
	}
	return d.lagging.TimeoutNow(id, to, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (d delaying) InstallSnapshot(
	id hraft.ServerID, to hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader,
) error {
	own := *args
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	if d.late(2, func() {
		_ = d.lagging.InstallSnapshot(id, to, &own, &hraft.InstallSnapshotResponse{}, bytes.NewReader(all))
	}) { // likewise
		return errGivenUp
	}
	return d.lagging.InstallSnapshot(id, to, args, resp, bytes.NewReader(all))
}
