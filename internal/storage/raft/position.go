package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/raft/wal"
)

// Keys of the state that are the store's own. They are written with the batch that they belong to, so that the state is
// always that after some entry of the log and says which.
const (
	positionKey = "\x00raft/position"
	peersKey    = "\x00raft/peers"
	doubtKey    = "\x00raft/restored"
	formerKey   = "\x00raft/former"
)

// A position is the last entry that is in the state, and the last one that was a batch and not void.
type position struct{ index, term, batch uint64 }

func (p position) op() storage.Op {
	b := binary.BigEndian.AppendUint64(nil, p.index)
	b = binary.BigEndian.AppendUint64(b, p.term)
	return storage.Op{Kind: storage.Put, Key: positionKey, Value: binary.BigEndian.AppendUint64(b, p.batch)}
}

// peers is the newest configuration of the cluster that is in the state, and the entry that brought it.
type peers struct {
	index uint64
	conf  raft.Configuration
}

func (p peers) op() storage.Op {
	b := binary.BigEndian.AppendUint64(nil, p.index)
	return storage.Op{Kind: storage.Put, Key: peersKey, Value: append(b, raft.EncodeConfiguration(p.conf)...)}
}

// readPosition reads where a state stands; a new one stands at 0.
func readPosition(store *pebble.Store) (at position, who peers, err error) {
	value, err := store.Get(context.Background(), positionKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return at, who, nil
	case err != nil:
		return at, who, err
	case len(value) != 24:
		return at, who, errPosition
	}
	at = position{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:]), binary.BigEndian.Uint64(value[16:])}
	value, err = store.Get(context.Background(), peersKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return at, who, nil
	case err != nil:
		return at, who, err
	case len(value) < 8:
		return at, who, errPosition
	}
	who.index = binary.BigEndian.Uint64(value)
	who.conf, err = decodeConfiguration(value[8:])
	return at, who, err
}

// A doubt is the position of a state that an operator has restored, and of which it is not known that the cluster has taken
// it: where the leader that restored it was lost meanwhile, others may go on with what they had. It is a part of the state
// itself, so that whoever is sent the state shares the doubt. The next entry that is applied ends it. The zero doubt is none.
type doubt struct{ index, term uint64 }

func (d doubt) op() storage.Op {
	b := binary.BigEndian.AppendUint64(nil, d.index)
	return storage.Op{Kind: storage.Put, Key: doubtKey, Value: binary.BigEndian.AppendUint64(b, d.term)}
}

// readDoubt reads whether a state is in doubt.
func readDoubt(store *pebble.Store, at position) (doubt, error) {
	value, err := store.Get(context.Background(), doubtKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return doubt{}, nil
	case err != nil:
		return doubt{}, err
	case len(value) != 16:
		return doubt{}, errPosition
	}
	d := doubt{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])}
	if at.index > d.index { // what came after it was applied, by a version of arca that does not know of the key
		return doubt{}, nil
	}
	return d, nil
}

// A former log is one of which a state has taken the place that ends before the log's first entry: the log followed on a state in doubt, with which the cluster does not
// go on. It is removed with the first entry that comes in its place, and until then the node tells by this that no entry is missing before it. The zero one is none.
type former struct{ index, last uint64 } // the state's position, and the log's end

func (l former) op() storage.Op {
	b := binary.BigEndian.AppendUint64(nil, l.index)
	return storage.Op{Kind: storage.Put, Key: formerKey, Value: binary.BigEndian.AppendUint64(b, l.last)}
}

// readFormer reads whether the log that is beside a state is a former one.
func readFormer(store *pebble.Store) (former, error) {
	value, err := store.Get(context.Background(), formerKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return former{}, nil
	case err != nil:
		return former{}, err
	case len(value) != 16:
		return former{}, errPosition
	}
	return former{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])}, nil
}

// isFormer reports whether the log, which begins behind the state, is a former one. The caller holds no lock: the node takes no part.
func (s *Store) isFormer(last uint64) bool {
	return s.former != former{} && s.former.index == s.position().index && last <= s.former.last
}

var errPosition = errs.New(errs.Failed, "the raft state does not say to which entry of the log it belongs: it is damaged. %s", wal.Advice)

// decodeConfiguration is raft.DecodeConfiguration without its panic.
func decodeConfiguration(data []byte) (conf raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.New(errs.Failed, "the raft configuration is damaged: %s", fmt.Sprint(p))
		}
	}()
	return raft.DecodeConfiguration(data), nil
}
