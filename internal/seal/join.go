package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// A node that has nothing joins a cluster so: an active node invites it, with a nonce and the seal's configuration, which
// holds the root key under the unseal key. When the node was given enough shares it has the root key, proves that, bound
// to the nonce and to what it says about itself, and is told the keyring, under a key of the same nonce. Neither side
// says anything that helps somebody who listens, or who has no shares: so the API may be reached without TLS.

const (
	nonceBytes  = 24 // 16 random, 8 of time
	inviteFor   = 10 * time.Minute
	joinPurpose = "arca raft join"
	replyLabel  = "arca raft join reply"
)

// An Invitation is what a node that wants to join needs.
type Invitation struct {
	Nonce  []byte
	Config []byte
}

// Invite invites a node. Only the active node can.
func (m *Manager) Invite() (Invitation, error) {
	u, err := m.active()
	if err != nil {
		return Invitation{}, err
	}
	inv := Invitation{Nonce: make([]byte, 16, nonceBytes)}
	_, _ = rand.Read(inv.Nonce) // never fails
	inv.Nonce = binary.BigEndian.AppendUint64(inv.Nonce, uint64(now().UnixNano()))
	inv.Config, err = json.Marshal(u.config)
	return inv, err
}

// Admit checks the proof of a node with what it says about itself, and returns what encrypts the reply to it.
func (m *Manager) Admit(nonce, proof, self []byte) (reply func(plain []byte) ([]byte, error), err error) {
	u, err := m.active()
	if err != nil {
		return nil, err
	}
	if len(nonce) != nonceBytes {
		return nil, errProof
	}
	made := time.Unix(0, int64(binary.BigEndian.Uint64(nonce[16:])))
	if age := now().Sub(made); age < 0 || age > inviteFor {
		return nil, errs.New(errs.Denied, "the invitation has expired: join again")
	}
	a := Applicant{root: u.root}
	want, err := a.Prove(nonce, self)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(want, proof) {
		return nil, errProof
	}
	return func(plain []byte) ([]byte, error) {
		key, err := a.key(nonce, "reply")
		if err != nil {
			return nil, err
		}
		defer key.Wipe()
		return barrier.Wrap(key, replyLabel, plain)
	}, nil
}

var errProof = errs.New(errs.Denied, "the answer to the challenge is wrong: the node has no or other unseal keys")

// An Applicant has the root key, and proves it.
type Applicant struct{ root barrier.Key }

func (a Applicant) key(nonce []byte, use string) (barrier.Key, error) {
	return hkdf.Key(sha256.New, a.root, nonce, joinPurpose+": "+use, barrier.KeyBytes)
}

// Prove answers an invitation; self is what the node says about itself.
func (a Applicant) Prove(nonce, self []byte) ([]byte, error) {
	key, err := a.key(nonce, "proof")
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	h := hmac.New(sha256.New, key)
	h.Write(self)
	return h.Sum(nil), nil
}

// Read decrypts the reply, which only a node with the same root key can have made.
func (a Applicant) Read(nonce, reply []byte) ([]byte, error) {
	key, err := a.key(nonce, "reply")
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return barrier.Unwrap(key, replyLabel, reply)
}

// Record is the keyring as it is stored: for a node that has proved to be one of the cluster.
func (m *Manager) Record() ([]byte, error) {
	u, err := m.active()
	if err != nil {
		return nil, err
	}
	d, err := u.ring.Same()
	if err != nil {
		return nil, err
	}
	return d.Record(u.root)
}

// joining is a cluster that this node will belong to when it is unsealed.
type joining struct {
	config *config
	join   func(ctx context.Context, a Applicant) (record []byte, err error)
}

// Join has an empty node unsealed with the shares of another cluster, as config describes them. When they are given, join
// answers the challenge, and returns the keyring of that cluster.
func (m *Manager) Join(ctx context.Context, conf []byte, join func(ctx context.Context, a Applicant) (record []byte, err error)) error {
	c, err := decodeConfig(conf)
	if err != nil {
		return err
	}
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	if stored, err := m.readStored(ctx); err != nil || stored != nil {
		return err
	}
	m.joining.Store(&joining{c, join})
	return nil
}
