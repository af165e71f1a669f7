package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// A node that has nothing joins a cluster so: an active node invites it, with a nonce and the seal's configuration, which
// holds the root key under the unseal key. When the node was given enough shares it has the root key, proves that, bound
// to the nonce and to what it says about itself, and is told the keyring, under a key of the same nonce. Neither side
// says anything that helps somebody who listens, or who has no shares: so the API may be reached without TLS.

const (
	nonceBytes  = nonceOwn + 16 // with what shows that this manager made it
	nonceOwn    = 16 + 8        // random, time
	inviteFor   = 10 * time.Minute
	maxSpent    = 4096
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
	inv := Invitation{Nonce: m.invites.nonce()}
	inv.Config, err = json.Marshal(u.config)
	return inv, err
}

// Admit checks the proof of a node with what it says about itself, and returns what encrypts the one reply to it. Who has listened can send a right proof
// once more; so an invitation serves once, and only where it was made: no other node knows whether it has served.
func (m *Manager) Admit(nonce, proof, self []byte) (reply func(plain []byte) ([]byte, error), err error) {
	u, err := m.active()
	if err != nil {
		return nil, err
	}
	if err := m.invites.check(nonce); err != nil {
		return nil, err
	}
	a := Applicant{root: u.root.get()}
	defer a.root.Wipe()
	if len(a.root) == 0 {
		return nil, ErrSealed
	}
	want, err := a.Prove(nonce, self)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(want, proof) {
		return nil, errProof
	}
	key, err := a.key(nonce, "reply")
	if err != nil {
		return nil, err
	}
	if err := m.invites.spend(nonce); err != nil {
		key.Wipe()
		return nil, err
	}
	return func(plain []byte) ([]byte, error) {
		defer key.Wipe()
		return barrier.Wrap(key, replyLabel, plain)
	}, nil
}

// invites are the invitations of one manager.
type invites struct {
	key [sha256.Size]byte // of no other manager, and of no other process

	mu    sync.Mutex
	spent map[string]time.Time // nonces that have served and have not expired, with when they were made
}

func (v *invites) init() {
	_, _ = rand.Read(v.key[:]) // never fails
	v.spent = map[string]time.Time{}
}

func (v *invites) nonce() []byte {
	n := make([]byte, 16, nonceBytes)
	_, _ = rand.Read(n) // never fails
	n = binary.BigEndian.AppendUint64(n, uint64(now().UnixNano()))
	return append(n, v.mark(n)...)
}

// mark shows that this manager made a nonce.
func (v *invites) mark(own []byte) []byte {
	h := hmac.New(sha256.New, v.key[:])
	h.Write(own)
	return h.Sum(nil)[:nonceBytes-nonceOwn]
}

// made is when a nonce was.
func made(nonce []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(nonce[16:])))
}

var errExpired = errs.New(errs.Denied, "the invitation has expired, has served already, or is another node's: join again")

func (v *invites) check(nonce []byte) error {
	if len(nonce) != nonceBytes {
		return errProof
	}
	if !hmac.Equal(v.mark(nonce[:nonceOwn]), nonce[nonceOwn:]) {
		return errExpired
	}
	if age := now().Sub(made(nonce)); age < 0 || age > inviteFor {
		return errExpired
	}
	return nil
}

// spend notes that an invitation has served. Only those who have the root key come so far; should there be very many, they wait.
func (v *invites) spend(nonce []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, is := v.spent[string(nonce)]; is {
		return errExpired
	}
	if len(v.spent) >= maxSpent {
		maps.DeleteFunc(v.spent, func(_ string, since time.Time) bool { return now().Sub(since) > inviteFor })
	}
	if len(v.spent) >= maxSpent {
		return errs.New(errs.Unavailable, "%d nodes have joined within %s: join again later", maxSpent, inviteFor)
	}
	v.spent[string(nonce)] = made(nonce)
	return nil
}

var errProof = errs.New(errs.Denied, "the answer to the challenge is wrong: the node has no or other unseal keys, or those from before a rekey: join again")

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
	root := u.root.get()
	defer root.Wipe()
	return d.Record(root)
}

// joining is a cluster that this node will belong to when it is unsealed.
type joining struct {
	Inviter
	config *config
	looked time.Time // when the cluster was asked for config again; zero for never
}

// An Inviter asks the cluster that a node is about to join.
type Inviter struct {
	// Look gives the seal's configuration, as an Invitation has it.
	Look func(ctx context.Context) (conf []byte, err error)
	// Join answers the challenge, and returns the keyring.
	Join func(ctx context.Context, a Applicant) (record []byte, err error)
}

// Join has an empty node unsealed with the shares of another cluster.
func (m *Manager) Join(ctx context.Context, by Inviter) error {
	conf, err := by.Look(ctx)
	if err != nil {
		return err
	}
	c, err := decodeInvited(conf)
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
	m.joining.Store(&joining{Inviter: by, config: c})
	return nil
}

// Joining reports whether this node is empty and about to join a cluster.
func (m *Manager) Joining() bool { return m.joining.Load() != nil }

// decodeInvited is decodeConfig for what a cluster tells, which may be anybody.
func decodeInvited(b []byte) (*config, error) {
	c, err := decodeConfig(b)
	if err != nil {
		return nil, err
	}
	for _, s := range c.sharings() {
		if err := checkCounts(s.Shares, s.Threshold); err != nil { // shares are kept until there are as many
			return nil, errs.New(errs.Failed, "the cluster tells of a seal that there is not: %w", err)
		}
	}
	return c, nil
}

const (
	lookTime  = 5 * time.Second // that the cluster has to answer
	lookEvery = 5 * time.Second // that it is asked at most, as everybody may give a share
)

// lookAgain has a node that is about to join a cluster know the seal's configuration of now: there may have been a rekey since
// it was invited. Nothing is held meanwhile but what others wait for who give a first share, too.
func (m *Manager) lookAgain(ctx context.Context) {
	if s := m.state.Load(); s.open != nil || s.round != nil || m.joining.Load() == nil {
		return
	}
	select {
	case m.looking <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-m.looking }()
	j := m.joining.Load()
	if j == nil || !j.looked.IsZero() && time.Since(j.looked) < lookEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	next := *j
	conf, err := j.Look(ctx)
	if err == nil {
		next.config, err = decodeInvited(conf)
	}
	if err != nil {
		next.config = j.config
		m.cfg.Log.Warn("ask the cluster for its seal's configuration again", "error", err)
	}
	next.looked = time.Now()
	m.joining.CompareAndSwap(j, &next) // else it was told to join another one meanwhile
}
