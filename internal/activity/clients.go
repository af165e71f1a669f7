// Package activity tells who uses the server: how many clients there were in each
// month, and who makes the most tokens and leases just now.
//
// A client is an entity, or all tokens without one that have the same policies in
// the same namespace, as in Vault's client count. Each has one record,
//
//	n/root/activity/c/<client id>
//
// which is written when the client comes for the first time in a month, and counts
// in one of
//
//	n/root/activity/n/<yyyymm>/<namespace id>/<mount accessor>
//
// by the month in which it was there before. So how many different clients came in
// any months is a sum over these, and a million clients are not walked over. All
// this is written behind the requests, some seconds later: a server that is killed
// forgets what it saw within these, and counts it when it sees it again.
package activity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/namespace"
	"arca/internal/storage"
)

const (
	dir       = "n/" + namespace.RootID + "/activity/"
	clientDir = dir + "c/"
	monthDir  = dir + "n/"
	configKey = dir + "config"
)

// Bounds and times.
const (
	// flushEvery is how soon a client that was seen is counted.
	flushEvery = 5 * time.Second
	// maxPending bounds the clients that wait to be counted. More are counted when
	// they come again.
	maxPending = 50_000
	// maxSeen bounds the clients that are known to be counted this month; when there
	// are more, all are looked up again.
	maxSeen = 200_000
	// perCommit bounds the clients that are counted in one transaction.
	perCommit = 500
	// MinRetention and MaxRetention bound for how many months clients are kept.
	MinRetention, MaxRetention = 1, 60
)

// A Month is a month in UTC: the year times 12 and the month from 0.
type Month int

// MonthOf returns the month of a time.
func MonthOf(t time.Time) Month { t = t.UTC(); return Month(t.Year()*12 + int(t.Month()) - 1) }

// Start is the first moment of the month.
func (m Month) Start() time.Time {
	return time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// key is how months lie in the store: in order.
func (m Month) key() string { return m.Start().Format("200601") }

func parseMonth(s string) (Month, error) {
	t, err := time.Parse("200601", s)
	return MonthOf(t), err
}

// A Client is somebody who uses the server.
type Client struct {
	ID        string `json:"id"` // of the entity, or made of namespace and policies
	Entity    bool   `json:"entity,omitempty"`
	Namespace string `json:"ns"`    // id of the token's
	Mount     string `json:"mount"` // accessor of the auth mount that made the token
}

// WithoutEntity is the client behind a token without an entity. Policies must be
// in order.
func WithoutEntity(ns string, policies []string, mount string) Client {
	sum := sha256.New()
	for _, s := range append([]string{ns}, policies...) {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(s), s) // never fails
	}
	return Client{ID: hex.EncodeToString(sum.Sum(nil)), Namespace: ns, Mount: mount}
}

// A record is what is kept of a client.
type record struct {
	Version   int     `json:"v"`
	Entity    bool    `json:"e,omitempty"`
	Namespace string  `json:"ns"`
	Mount     string  `json:"m"`
	First     int64   `json:"t"` // when it came first this month, in Unix seconds
	Months    []Month `json:"mon"`
}

// counts is how many clients came in one month, by the month in which each was
// there before (0: never).
type counts struct {
	Entities    map[Month]int `json:"e,omitempty"`
	NonEntities map[Month]int `json:"n,omitempty"`
}

// Settings say whether clients are counted, and for how long they are kept.
type Settings struct {
	Version   int    `json:"v"`
	Enabled   string `json:"enabled"`   // default, enable, disable
	Retention int    `json:"retention"` // in months
	Report    int    `json:"report"`    // months of a report for which none are given
}

func defaults() Settings { return Settings{Version: 1, Enabled: "default", Retention: 48, Report: 12} }

// On reports whether clients are counted.
func (s Settings) On() bool { return s.Enabled != "disable" }

// ReadSettings returns the settings in force.
func ReadSettings(tx storage.Tx) (Settings, error) {
	s, err := storage.GetJSON[Settings](tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return defaults(), nil
	}
	if err != nil {
		return Settings{}, err
	}
	return *s, nil
}

// WriteSettings sets them.
func WriteSettings(tx storage.Tx, s Settings) error {
	s.Version = 1
	return storage.PutJSON(tx, configKey, s)
}

// A Log counts clients. Safe for concurrent use.
type Log struct {
	db  *storage.DB
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	month   Month
	seen    map[string]struct{} // what is counted or pending, by the keys of Saw
	pending []Sighting
	wake    chan struct{}

	// Elsewhere gives what was seen to who may store it, on a node that may not. It
	// must be set before Run, if at all.
	Elsewhere func(ctx context.Context, seen []Sighting) error
}

// A Sighting is that a client has come.
type Sighting struct {
	Client
	At time.Time `json:"at"`
}

// MaxSighting bounds the size of a sighting in JSON, in bytes.
const MaxSighting = 512

// NewLog returns a Log; Run must be called for anything to be counted.
func NewLog(db *storage.DB, log *slog.Logger) *Log {
	return &Log{db: db, log: log, now: time.Now, seen: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

// Saw notes that somebody has come. key tells callers apart cheaply; who tells
// which client that is, and is asked once in a month.
func (l *Log) Saw(key string, who func() Client) {
	at := l.now()
	month := MonthOf(at)
	l.mu.Lock()
	if month != l.month || len(l.seen) >= maxSeen {
		clear(l.seen)
		l.month = month
	}
	_, known := l.seen[key]
	if known || len(l.pending) >= maxPending {
		l.mu.Unlock()
		return
	}
	l.seen[strings.Clone(key)] = struct{}{}
	l.mu.Unlock()
	c := who()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, Sighting{c, at})
	l.stir()
}

// Take counts what another node has seen.
func (l *Log) Take(seen []Sighting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(seen) == 0 {
		return
	}
	l.pending = append(l.pending, seen[:min(len(seen), maxPending-min(maxPending, len(l.pending)))]...)
	l.stir()
}

// stir has what is pending counted soon. mu is held.
func (l *Log) stir() {
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run counts until ctx is done, and then what is pending.
func (l *Log) Run(ctx context.Context) {
	swept := Month(0)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			l.flush(last)
			return
		case <-l.wake:
		}
		t := time.NewTimer(flushEvery)
		select {
		case <-ctx.Done():
		case <-t.C:
			here := l.flush(ctx)
			if now := MonthOf(l.now()); here && now != swept {
				swept = now
				l.sweep(ctx, now)
			}
		}
		t.Stop()
	}
}

// flush counts what is pending, and reports whether this node did so itself.
func (l *Log) flush(ctx context.Context) (here bool) {
	l.mu.Lock()
	all := l.pending
	l.pending = nil
	l.mu.Unlock()
	here = true
	for part := range slices.Chunk(all, perCommit) {
		err := l.count(ctx, part)
		if errors.Is(err, storage.ErrNotActive) && l.Elsewhere != nil {
			here = false
			err = l.Elsewhere(ctx, part)
		}
		if err != nil {
			l.log.Warn("clients could not be counted; they will be when they come again", "clients", len(part), "error", err)
			l.mu.Lock()
			clear(l.seen)
			l.mu.Unlock()
			return false
		}
	}
	return here
}

type place struct {
	month     Month
	ns, mount string
}

func (p place) key() string { return monthDir + p.month.key() + "/" + p.ns + "/" + p.mount }

// count counts clients that may have been counted already.
func (l *Log) count(ctx context.Context, part []Sighting) error {
	return l.db.Update(ctx, func(tx storage.Tx) error {
		s, err := ReadSettings(tx)
		if err != nil || !s.On() {
			return err
		}
		sums := map[place]*counts{}
		for _, c := range part {
			if err := note(tx, sums, c, s.Retention); err != nil {
				return err
			}
		}
		for p, n := range sums {
			if err := storage.PutJSON(tx, p.key(), n); err != nil {
				return err
			}
		}
		return nil
	})
}

func note(tx storage.Tx, sums map[place]*counts, c Sighting, retention int) error {
	key, month := clientDir+c.ID, MonthOf(c.At)
	r, err := storage.GetJSON[record](tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		r = &record{Version: 1, Entity: c.Entity}
	} else if err != nil {
		return err
	}
	before := Month(0)
	if n := len(r.Months); n > 0 {
		before = r.Months[n-1]
	}
	if before >= month { // counted; or the clock went back
		return nil
	}
	r.Months = append(r.Months, month)
	if from := len(r.Months) - retention; from > 0 {
		r.Months = r.Months[from:]
	}
	r.Namespace, r.Mount, r.First = c.Namespace, c.Mount, c.At.Unix()
	p := place{month, c.Namespace, c.Mount}
	sum := sums[p]
	if sum == nil {
		sum, err = storage.GetJSON[counts](tx, p.key())
		if errors.Is(err, storage.ErrNotFound) {
			sum = &counts{}
		} else if err != nil {
			return err
		}
		sums[p] = sum
	}
	into := &sum.NonEntities
	if c.Entity {
		into = &sum.Entities
	}
	if *into == nil {
		*into = map[Month]int{}
	}
	(*into)[before]++
	return storage.PutJSON(tx, key, r)
}

// sweep forgets the months, and the clients of these alone, that are older than
// they are kept.
func (l *Log) sweep(ctx context.Context, now Month) {
	after := ""
	for ctx.Err() == nil {
		next := ""
		err := l.db.Update(ctx, func(tx storage.Tx) error {
			s, err := ReadSettings(tx)
			if err != nil {
				return err
			}
			next, err = sweepPart(tx, now-Month(s.Retention), after)
			return err
		})
		if err != nil {
			l.log.Warn("old client counts could not be removed", "error", err)
			return
		}
		if next == "" {
			return
		}
		after = next
	}
}

func sweepPart(tx storage.Tx, oldest Month, after string) (next string, err error) {
	if after == "" {
		for key, err := range tx.Keys(monthDir, "") {
			if err != nil {
				return "", err
			}
			m, err := parseMonth(key[len(monthDir):min(len(key), len(monthDir)+6)])
			if err == nil && m >= oldest {
				break
			}
			if err := tx.Delete(key); err != nil {
				return "", err
			}
		}
	}
	n := 0
	for kv, err := range tx.Scan(clientDir, after) {
		if err != nil {
			return "", err
		}
		if n++; n > perCommit {
			return next, nil
		}
		next = kv.Key
		var r record
		if json.Unmarshal(kv.Value, &r) == nil && len(r.Months) > 0 && r.Months[len(r.Months)-1] >= oldest {
			continue
		}
		if err := tx.Delete(kv.Key); err != nil {
			return "", err
		}
	}
	return "", nil
}

// A Number is how many clients there are.
type Number struct{ Entities, NonEntities int }

// Add adds.
func (n *Number) Add(o Number) { n.Entities += o.Entities; n.NonEntities += o.NonEntities }

// Total is all of them.
func (n Number) Total() int { return n.Entities + n.NonEntities }

// A Count is how many clients came in a month by one mount of a namespace.
type Count struct {
	Month            Month
	Namespace, Mount string // id, accessor
	All              Number
	New              Number // that had not come since the first of the months asked for
}

// Read tells the counts of the months from first to last, in order. Those of
// namespaces that in is false for are left out.
func Read(tx storage.Tx, first, last Month, in func(ns string) bool) ([]Count, error) {
	var out []Count
	for kv, err := range tx.Scan(monthDir, monthDir+first.key()) {
		if err != nil {
			return nil, err
		}
		parts := strings.SplitN(kv.Key[len(monthDir):], "/", 3)
		if len(parts) != 3 {
			continue
		}
		m, err := parseMonth(parts[0])
		if err != nil || m < first {
			continue
		}
		if m > last {
			break
		}
		if !in(parts[1]) {
			continue
		}
		var n counts
		if json.Unmarshal(kv.Value, &n) != nil {
			return nil, fmt.Errorf("the record %q cannot be decoded", kv.Key)
		}
		c := Count{Month: m, Namespace: parts[1], Mount: parts[2]}
		c.All.Entities, c.New.Entities = sum(n.Entities, first)
		c.All.NonEntities, c.New.NonEntities = sum(n.NonEntities, first)
		out = append(out, c)
	}
	return out, nil
}

func sum(by map[Month]int, first Month) (all, fresh int) {
	for before, n := range by {
		all += n
		if before < first {
			fresh += n
		}
	}
	return all, fresh
}

// MarshalText implements encoding.TextMarshaler: a month is a key of counts.
func (m Month) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(m), 10), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Month) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	*m = Month(n)
	return err
}
