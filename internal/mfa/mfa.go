// Package mfa keeps the second factors of logins: the methods (TOTP), who must
// use them (enforcements), the secrets of those who do, and the logins that wait
// for their second factor.
//
// A code counts once: the step of time that a code belongs to is stored with the
// secret, in the transaction that makes the token. Wrong codes are counted in
// memory, as logins that wait are; a restart forgets both. The behaviour follows
// https://developer.hashicorp.com/vault/docs/auth/login-mfa.
//
// Keys below a namespace's "i/mfa/":
//
//	m/<id>               a method
//	n/<name>             the id of the method with this name
//	e                    all enforcements of the namespace, one record
//	s/<entity>/<method>  the secret of an entity for a method
package mfa

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"arca/internal/bounded"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Bounds on what is kept.
const (
	maxEnforcements = 500 // of a namespace
	maxMethods      = 100 // of an enforcement
	maxTargets      = 2000
	maxWaiting      = 100_000
	maxOwnWaiting   = 10 // logins of one entity
	maxCounted      = 1 << 16
	waitTime        = 5 * time.Minute // for the second factor
	attemptsTime    = 5 * time.Minute // for which wrong codes count
)

// ErrNotFound is a method or enforcement that does not exist.
var ErrNotFound = errs.New(errs.NotFound, "not found")

// A Method is a way to show a second factor: codes that change with time (RFC
// 6238). Methods that a Store returns are shared: do not change them.
type Method struct {
	Version   int    `json:"v"`
	ID        string `json:"id"`
	Name      string `json:"name,omitempty"`
	Issuer    string `json:"issuer"`
	Period    int    `json:"period"` // seconds
	KeySize   int    `json:"key_size"`
	QRSize    int    `json:"qr_size"` // pixels; 0: none
	Algorithm string `json:"algorithm"`
	Digits    int    `json:"digits"`
	Skew      int    `json:"skew"` // steps before and after that are taken, too
	Attempts  int    `json:"attempts"`

	NamespaceID string `json:"-"`
}

// Algorithms of RFC 6238, by the API's names.
func algorithmOf(name string) (otp.Algorithm, bool) {
	for _, a := range []otp.Algorithm{otp.AlgorithmSHA1, otp.AlgorithmSHA256, otp.AlgorithmSHA512} {
		if a.String() == name {
			return a, true
		}
	}
	return 0, false
}

func (m *Method) check() error {
	_, known := algorithmOf(m.Algorithm)
	switch {
	case m.Issuer == "":
		return errs.New(errs.Invalid, "issuer must be set")
	case len(m.Issuer) > 512 || len(m.Name) > 512:
		return errs.New(errs.Invalid, "issuer or method_name is longer than 512 bytes")
	case !known:
		return errs.New(errs.Invalid, "unrecognized algorithm")
	case m.Digits != 6 && m.Digits != 8:
		return errs.New(errs.Invalid, "digits can only be 6 or 8")
	case m.Skew != 0 && m.Skew != 1:
		return errs.New(errs.Invalid, "skew must be 0 or 1")
	case m.Period <= 0 || m.Period > 3600:
		return errs.New(errs.Invalid, "period must be greater than zero, and an hour at most")
	case m.KeySize <= 0 || m.KeySize > 256:
		return errs.New(errs.Invalid, "key_size must be greater than zero")
	case m.QRSize < 0 || m.QRSize > 4096:
		return errs.New(errs.Invalid, "qr_size must be greater than or equal to zero")
	case m.Attempts <= 0 || m.Attempts > 1000:
		return errs.New(errs.Invalid, "max_validation_attempts must be greater than zero")
	}
	return nil
}

// An Enforcement says whose logins need one of some methods.
type Enforcement struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Methods   []string `json:"methods"`
	Accessors []string `json:"accessors,omitempty"`
	Types     []string `json:"types,omitempty"`
	Groups    []string `json:"groups,omitempty"`
	Entities  []string `json:"entities,omitempty"`
}

// A Secret is what an entity's codes are made from.
//
// Period, Digits and Algorithm are those of its method at the time: the user's
// app knows no others, whatever becomes of the method.
type Secret struct {
	Version   int    `json:"v"`
	Key       []byte `json:"key"`
	Period    int    `json:"period"` // seconds
	Digits    int    `json:"digits"`
	Algorithm string `json:"algorithm"`
	Last      int64  `json:"last"` // the step of the last code that was taken
}

// NewSecret makes a secret for a method.
func (m *Method) NewSecret() *Secret {
	sec := &Secret{Version: 1, Key: make([]byte, m.KeySize), Period: m.Period, Digits: m.Digits, Algorithm: m.Algorithm}
	_, _ = rand.Read(sec.Key) // never fails
	return sec
}

type enforcements struct {
	Version int            `json:"v"`
	List    []*Enforcement `json:"list"` // by name
}

// A Store keeps methods, enforcements and secrets. Safe for concurrent use.
type Store struct {
	methods      *storage.Cache[*Method]
	enforcements *storage.Cache[[]*Enforcement]

	mu      sync.Mutex
	waiting map[string]*Waiting // guarded by mu, as are the others
	own     map[string][]string // ids of waiting, oldest first, by the entity
	failed  map[attempt]*failures
}

// NewStore makes the store over db.
func NewStore(db *storage.DB) *Store {
	s := &Store{waiting: map[string]*Waiting{}, own: map[string][]string{}, failed: map[attempt]*failures{}}
	s.methods = storage.NewCache(db, 1<<20, func(_ string, value []byte) (*Method, int, error) {
		m := &Method{}
		if err := json.Unmarshal(value, m); err != nil {
			return nil, 0, fmt.Errorf("decode MFA method: %w", err)
		}
		m.NamespaceID = identity.NamespaceOf(m.ID)
		return m, 256 + 2*len(value), nil
	})
	s.enforcements = storage.NewCache(db, 1<<20, func(_ string, value []byte) ([]*Enforcement, int, error) {
		var e enforcements
		if err := json.Unmarshal(value, &e); err != nil {
			return nil, 0, fmt.Errorf("decode MFA enforcements: %w", err)
		}
		return e.List, 128 + 3*len(value), nil
	})
	return s
}

func dir(ns string) string               { return namespace.Prefix(ns) + "i/mfa/" }
func methodKey(id string) string         { return dir(identity.NamespaceOf(id)) + "m/" + id }
func nameKey(ns, name string) string     { return dir(ns) + "n/" + name }
func enforcementsKey(ns string) string   { return dir(ns) + "e" }
func secretDir(entity string) string     { return dir(identity.NamespaceOf(entity)) + "s/" + entity + "/" }
func secretKey(entity, id string) string { return secretDir(entity) + id }

func valid(id string) bool { return identity.ValidID(id) }

// Method finds a method by its id. The error is ErrNotFound when there is none.
func (s *Store) Method(tx storage.Tx, id string) (*Method, error) {
	if !valid(id) {
		return nil, ErrNotFound
	}
	m, err := s.methods.Get(tx, methodKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	return m, err
}

// MethodIDs lists the methods of a namespace.
func (s *Store) MethodIDs(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"m/", after, limit)
}

// PutMethod stores a method; it gets an id when it has none.
func (s *Store) PutMethod(tx storage.Tx, ns string, m *Method) error {
	if err := m.check(); err != nil {
		return err
	}
	fresh := m.ID == ""
	if fresh {
		m.ID = identity.NewID(ns)
	}
	if m.Name != "" && fresh {
		if _, err := tx.Get(nameKey(ns, m.Name)); err == nil {
			return errs.New(errs.Invalid, "an MFA method named %q exists already", m.Name)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := tx.Put(nameKey(ns, m.Name), []byte(m.ID)); err != nil {
			return err
		}
	}
	m.Version = 1
	return storage.PutJSON(tx, methodKey(m.ID), m)
}

// DeleteMethod removes a method that no enforcement uses: neither of its namespace
// nor of those below, whose ids are given.
func (s *Store) DeleteMethod(tx storage.Tx, m *Method, below []string) error {
	for _, ns := range append([]string{m.NamespaceID}, below...) {
		list, err := s.Enforcements(tx, ns)
		if err != nil {
			return err
		}
		for _, e := range list {
			if slices.Contains(e.Methods, m.ID) {
				return errs.List(errs.Failed, "methodID is still used by an enforcement configuration with ID: "+e.ID)
			}
		}
	}
	if m.Name != "" {
		if err := tx.Delete(nameKey(m.NamespaceID, m.Name)); err != nil {
			return err
		}
	}
	return tx.Delete(methodKey(m.ID))
}

// Enforcements lists those of a namespace, by name. The list is shared.
func (s *Store) Enforcements(tx storage.Tx, ns string) ([]*Enforcement, error) {
	list, err := s.enforcements.Get(tx, enforcementsKey(ns))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// PutEnforcement stores an enforcement in place of the one of its name.
func (s *Store) PutEnforcement(tx storage.Tx, ns string, e *Enforcement) error {
	list, err := s.Enforcements(tx, ns)
	if err != nil {
		return err
	}
	if len(e.Methods) > maxMethods || len(e.Accessors)+len(e.Types)+len(e.Groups)+len(e.Entities) > maxTargets || len(e.Name) > 512 {
		return errs.New(errs.Invalid, "an enforcement names at most %d methods and %d of whom it is for", maxMethods, maxTargets)
	}
	list = slices.Clone(list)
	at, have := slices.BinarySearchFunc(list, e.Name, byName)
	if have {
		e.ID = list[at].ID
		list[at] = e
	} else {
		e.ID = identity.NewID(ns)
		list = slices.Insert(list, at, e)
	}
	if len(list) > maxEnforcements {
		return errs.New(errs.Invalid, "a namespace has at most %d enforcements", maxEnforcements)
	}
	return storage.PutJSON(tx, enforcementsKey(ns), enforcements{1, list})
}

// DeleteEnforcement removes an enforcement, if there is one of this name.
func (s *Store) DeleteEnforcement(tx storage.Tx, ns, name string) error {
	list, err := s.Enforcements(tx, ns)
	if err != nil {
		return err
	}
	at, have := slices.BinarySearchFunc(list, name, byName)
	if !have {
		return nil
	}
	list = slices.Delete(slices.Clone(list), at, at+1)
	if len(list) == 0 {
		return tx.Delete(enforcementsKey(ns))
	}
	return storage.PutJSON(tx, enforcementsKey(ns), enforcements{1, list})
}

func byName(e *Enforcement, name string) int {
	switch {
	case e.Name < name:
		return -1
	case e.Name > name:
		return 1
	}
	return 0
}

// SecretOf reads the secret of an entity for a method. The error is ErrNotFound
// when there is none.
func (s *Store) SecretOf(tx storage.Tx, entity, method string) (*Secret, error) {
	if !valid(entity) || !valid(method) {
		return nil, ErrNotFound
	}
	out, err := storage.GetJSON[Secret](tx, secretKey(entity, method))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	return out, err
}

// PutSecret stores the secret of an entity for a method.
func (s *Store) PutSecret(tx storage.Tx, entity, method string, sec *Secret) error {
	sec.Version = 1
	return storage.PutJSON(tx, secretKey(entity, method), sec)
}

// DeleteSecret removes the secret of an entity for a method, if there is one.
func (s *Store) DeleteSecret(tx storage.Tx, entity, method string) error {
	return tx.Delete(secretKey(entity, method))
}

// DeleteSecrets removes all secrets of an entity that is deleted or merged.
func (s *Store) DeleteSecrets(tx storage.Tx, entity string) error {
	ids, err := tx.List(secretDir(entity), "", 0)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := tx.Delete(secretKey(entity, id)); err != nil {
			return err
		}
	}
	return nil
}

// Take checks a code of an entity and notes that it was used. It reports false
// for one that is wrong, old, used already, or one too many.
func (s *Store) Take(tx storage.Tx, m *Method, entity, code string, now time.Time) (bool, error) {
	sec, err := s.SecretOf(tx, entity, m.ID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !s.mayTry(m, entity, now) {
		return false, nil
	}
	if sec.Period == 0 { // it was made when the method's parameters counted
		old := *sec
		old.Period, old.Digits, old.Algorithm = m.Period, m.Digits, m.Algorithm
		sec = &old
	}
	step, err := sec.match(code, now, m.Skew)
	if err != nil || step <= sec.Last {
		return false, err
	}
	next := *sec
	next.Last = step
	return true, s.PutSecret(tx, entity, m.ID, &next)
}

// match finds the step of time to which a code belongs; 0 is none. All steps are
// computed, whichever fits.
func (s *Secret) match(code string, now time.Time, skew int) (int64, error) {
	alg, known := algorithmOf(s.Algorithm)
	if !known || s.Period <= 0 {
		return 0, errors.New("the stored MFA secret is incomplete")
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s.Key)
	at := now.Unix() / int64(s.Period)
	found := int64(0)
	for step := at - int64(skew); step <= at+int64(skew); step++ {
		if step < 0 {
			continue
		}
		want, err := hotp.GenerateCodeCustom(text, uint64(step), hotp.ValidateOpts{Digits: otp.Digits(s.Digits), Algorithm: alg})
		if err != nil {
			return 0, errors.New("make a code of an MFA secret")
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found = step
		}
	}
	return found, nil
}

type attempt struct{ entity, method string }

type failures struct {
	count int
	until time.Time
}

// mayTry counts a code before it is looked at, so that many at once are no more
// than as many one after another, and reports whether there were not too many.
func (s *Store) mayTry(m *Method, entity string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := attempt{entity, m.ID}
	f := s.failed[k]
	if f == nil || !now.Before(f.until) {
		bounded.MakeRoom(s.failed, maxCounted,
			func(f *failures) bool { return !now.Before(f.until) },
			func(a, b *failures) int { return cmp.Or(a.count-b.count, a.until.Compare(b.until)) })
		f = &failures{}
		s.failed[k] = f
	}
	if f.count >= m.Attempts {
		return false
	}
	f.count++
	f.until = now.Add(attemptsTime)
	return true
}

// Forgive forgets the codes that an entity has sent for methods, as the last ones
// were right.
func (s *Store) Forgive(entity string, methods map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range methods {
		delete(s.failed, attempt{entity, id})
	}
}

// A Waiting login has passed its first factor.
type Waiting struct {
	Login    any // what the hall makes the token of
	EntityID string
	until    time.Time
	claimed  string // the request that may finish it; "": none yet
}

// Full reports whether no more logins may wait, of whomever; those that wait are
// not given up for others.
func (s *Store) Full(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) < maxWaiting {
		return false
	}
	for k, old := range s.waiting {
		if !now.Before(old.until) {
			s.forget(k)
		}
	}
	return len(s.waiting) >= maxWaiting
}

// Wait keeps a login under an id that nobody guesses, in place of the oldest of the
// same entity when that has many. See Full.
func (s *Store) Wait(id string, w *Waiting, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own := s.own[w.EntityID]; len(own) >= maxOwnWaiting {
		s.forget(own[0])
	}
	w.until = now.Add(waitTime)
	s.waiting[id] = w
	s.own[w.EntityID] = append(s.own[w.EntityID], id)
}

// forget drops a login that waits. mu is held.
func (s *Store) forget(id string) {
	w := s.waiting[id]
	if w == nil {
		return
	}
	delete(s.waiting, id)
	own := s.own[w.EntityID]
	if i := slices.Index(own, id); i >= 0 {
		own = slices.Delete(own, i, i+1)
	}
	if s.own[w.EntityID] = own; len(own) == 0 {
		delete(s.own, w.EntityID)
	}
}

// Waiter finds a login that waits; nil when there is none.
func (s *Store) Waiter(id string, now time.Time) *Waiting {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[id]
	if w == nil || !now.Before(w.until) {
		return nil
	}
	return w
}

// Claim gives a login that waits to the request that may finish it, which is by, and reports
// whether it did: another has it, or the login does not wait any more. A login makes one token,
// with however many right codes it is finished at once. The request may claim it again.
func (s *Store) Claim(id, by string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[id]
	if w == nil || !now.Before(w.until) || w.claimed != "" && w.claimed != by {
		return false
	}
	w.claimed = by
	return true
}

// Release lets others claim a login that by did not finish.
func (s *Store) Release(id, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[id]; w != nil && w.claimed == by {
		w.claimed = ""
	}
}

// Done forgets a login that has waited.
func (s *Store) Done(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(id)
}
