// Package quota bounds how often a client may ask, and how many leases there may
// be: for all, for a namespace, a mount, a path or a role of an auth method, as
// https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas and
// https://developer.hashicorp.com/vault/api-docs/system/lease-count-quotas have
// them.
//
// The rules are few and lie in the root namespace ("quota/rule/<name>",
// "quota/lease/<name>", "quota/config"); they are compiled into one immutable set whenever they
// change. Without a rule a request pays for one atomic load. What clients have
// used is counted in memory, by address or entity, and bounded; leases are counted in the
// store, in the transactions that make and end them.
package quota

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"arca/internal/bounded"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Bounds.
const (
	MaxRules   = 1000
	maxClients = 1 << 16 // that one rule remembers, and as many entities
	MaxRate    = 1e9     // of one client, in an interval
)

var (
	dir       = namespace.Prefix(namespace.RootID) + "quota/"
	configKey = dir + "config"
)

// A Kind says what a rule bounds.
type Kind string

// The kinds of rules, as the API has them.
const (
	Rate   Kind = "rate-limit"
	Leases Kind = "lease-count"
)

func (k Kind) dir() string {
	if k == Leases {
		return dir + "lease/"
	}
	return dir + "rule/"
}

// GroupBy says which requests count together for a rate limit. The zero value is ByIP.
type GroupBy string

// What rate limits count by.
const (
	ByIP             GroupBy = "ip"
	ByNone           GroupBy = "none"             // all that the rule is about
	ByEntityThenIP   GroupBy = "entity_then_ip"   // the token's entity; without one, the address
	ByEntityThenNone GroupBy = "entity_then_none" // the token's entity; all others together
)

// entities reports whether entities are counted.
func (g GroupBy) entities() bool { return g == ByEntityThenIP || g == ByEntityThenNone }

// CheckGroups brings a rule's GroupBy and Secondary into their stored form. The error is of kind Invalid.
func (r *Rule) CheckGroups() error {
	switch r.GroupBy {
	case "", ByIP:
		r.GroupBy = ""
	case ByNone, ByEntityThenIP, ByEntityThenNone:
	default:
		return errs.New(errs.Invalid, "'group_by' is invalid: it is one of ip, none, entity_then_ip and entity_then_none")
	}
	switch {
	case r.Secondary == 0:
	case !(r.Secondary > 0) || r.Secondary > MaxRate:
		return errs.New(errs.Invalid, "'secondary_rate' is invalid")
	case !r.GroupBy.entities():
		return errs.New(errs.Invalid, "'secondary_rate' can only be set if 'group_by' is 'entity_then_ip' or 'entity_then_none'")
	}
	return nil
}

// Groups are what the API shows of GroupBy and Secondary.
func (r *Rule) Groups() (by GroupBy, secondary float64) {
	by = cmp.Or(r.GroupBy, ByIP)
	if !by.entities() {
		return by, 0
	}
	return by, cmp.Or(r.Secondary, r.Rate)
}

// A Rule is a quota as it is stored.
type Rule struct {
	Version     int           `json:"v"`
	Name        string        `json:"name"`
	Path        string        `json:"path"` // as it was given: namespace, mount, path below
	Role        string        `json:"role,omitempty"`
	Rate        float64       `json:"rate"` // requests of one client
	Interval    time.Duration `json:"interval"`
	Block       time.Duration `json:"block,omitempty"`
	Inheritable bool          `json:"inheritable,omitempty"`
	Max         int           `json:"max,omitempty"` // leases
	ID          string        `json:"id,omitempty"`  // of a rule for leases; another one when it is about others
	GroupBy     GroupBy       `json:"group_by,omitempty"`
	Secondary   float64       `json:"secondary,omitempty"` // rate of those without an entity, where entities are counted; 0: Rate

	// What the path means: resolved when the rule is written.
	Namespace string `json:"ns,omitempty"`    // path: "a/b/"
	Mount     string `json:"mount,omitempty"` // "kv/", "auth/approle/"
	Below     string `json:"below,omitempty"` // "data/team", "data/*"
}

// same reports whether two rules are about the same requests.
func (r *Rule) same(o *Rule) bool {
	return r.Namespace == o.Namespace && r.Mount == o.Mount && r.Below == o.Below && strings.EqualFold(r.Role, o.Role)
}

// weight orders rules: the most special one that fits counts, and no other.
func (r *Rule) weight() int {
	n := len(r.Namespace)
	if r.Mount != "" {
		n += 1 << 16
	}
	if r.Below != "" {
		n += 1<<17 + len(r.Below)
	}
	if r.Role != "" {
		n += 1 << 20
	}
	return n
}

// A Target is what a request is about.
type Target struct {
	Namespace string // path
	Mount     string
	Below     string // the path below the mount
	Role      string // for which a login is tried, where that is known; its case means nothing
	AnyCase   bool   // Below holds a name whose case means nothing
}

func (r *Rule) fits(t *Target) bool {
	switch {
	case r.Namespace != t.Namespace && !(r.Mount == "" && r.Inheritable && strings.HasPrefix(t.Namespace, r.Namespace)):
		return false
	case r.Mount != "" && r.Mount != t.Mount:
		return false
	case r.Role != "" && !strings.EqualFold(r.Role, t.Role):
		return false
	case r.Below == "":
		return true
	}
	want, have := r.Below, t.Below
	if t.AnyCase { // who writes a name otherwise is bound all the same
		want, have = strings.ToLower(want), strings.ToLower(have)
	}
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(have, prefix)
	}
	return want == have
}

// Config is sys/quotas/config.
type Config struct {
	Version int      `json:"v"`
	Audit   bool     `json:"audit"`
	Headers bool     `json:"headers"`
	Exempt  []string `json:"exempt"` // paths; one that ends with / covers all below
}

// DefaultExempt are the paths that no quota bounds unless configured.
func DefaultExempt() []string {
	return []string{
		"sys/generate-recovery-token/attempt", "sys/generate-recovery-token/update", "sys/generate-root/attempt",
		"sys/generate-root/update", "sys/health", "sys/seal-status", "sys/unseal",
	}
}

// A set is all the rules, the most special first. It is immutable.
type set struct {
	config *Config
	rules  []*counted
	leases []*Rule
}

// counted is a rule with what its clients have used.
type counted struct {
	Rule
	*used
}

// used is what the clients of a rule have used. A rule keeps it when its mount moves.
type used struct {
	mu       sync.Mutex
	clients  map[netip.Addr]*window // guarded by mu; without an address where all count together
	entities map[string]*window     // guarded by mu; apart, so that no number of addresses crowds them out
}

// A window is one interval of one client.
type window struct {
	start   time.Time
	used    int
	blocked time.Time // until then
}

// A Keeper holds requests to the rules. Safe for concurrent use.
type Keeper struct {
	db     *storage.DB
	log    *slog.Logger
	set    atomic.Pointer[set]
	stale  atomic.Bool // the store could not be read when it had changed
	mu     sync.Mutex  // held while the set changes
	cancel func()
}

// NewKeeper reads the rules of db and follows their changes until Close.
func NewKeeper(db *storage.DB, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{db: db, log: log}
	k.set.Store(&set{config: &Config{}})
	k.cancel = db.Watch(dir, func(storage.Change) {
		k.catchUp()
	})
	if err := k.follow(); err != nil {
		k.cancel()
		return nil, err
	}
	return k, nil
}

// Close ends following the store.
func (k *Keeper) Close() { k.cancel() }

// catchUp follows a change; what could not be read is tried again by who asks next.
func (k *Keeper) catchUp() {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.follow()
	if k.stale.Store(err != nil); err != nil {
		k.log.Error("read quotas; those in use stay", "error", err)
	}
}

// again is catchUp of what could not be read, unless another has meanwhile.
func (k *Keeper) again() {
	k.mu.Lock()
	stale := k.stale.Load()
	k.mu.Unlock()
	if stale {
		k.catchUp()
	}
}

// rules returns the set in use.
func (k *Keeper) rules() *set {
	if k.stale.Load() {
		k.again()
	}
	return k.set.Load()
}

// follow brings the set in line with the store. A rule that has not changed keeps
// its counts, also when its mount has moved: nobody gets a fresh interval by moving
// a mount to and fro. mu is held.
func (k *Keeper) follow() error {
	next := &set{}
	err := k.db.View(context.Background(), func(tx storage.Tx) (err error) {
		if next.config, err = ReadConfig(tx); err != nil {
			return err
		}
		if next.leases, err = List(tx, Leases); err != nil {
			return err
		}
		rules, err := List(tx, Rate)
		for _, r := range rules {
			next.rules = append(next.rules, &counted{*r, &used{clients: map[netip.Addr]*window{}, entities: map[string]*window{}}})
		}
		return err
	})
	if err != nil {
		return err
	}
	old := k.set.Load()
	for _, r := range next.rules {
		for _, have := range old.rules {
			was := have.Rule
			if was.Path, was.Mount = r.Path, r.Mount; was == r.Rule {
				r.used = have.used
			}
		}
	}
	slices.SortStableFunc(next.rules, func(a, b *counted) int { return b.weight() - a.weight() })
	slices.SortStableFunc(next.leases, func(a, b *Rule) int { return b.weight() - a.weight() })
	k.set.Store(next)
	return nil
}

// Any reports whether there is a rate limit at all.
func (k *Keeper) Any() bool { return len(k.rules().rules) > 0 }

// Asks reports whether a rate limit of the target's mount is for a role, whether one
// is for paths below it, and whether any rate limit counts by entities.
func (k *Keeper) Asks(t *Target) (roles, paths, entities bool) {
	for _, r := range k.rules().rules {
		entities = entities || r.GroupBy.entities()
		if r.Mount == t.Mount && r.Namespace == t.Namespace {
			roles, paths = roles || r.Role != "", paths || r.Below != ""
		}
	}
	return roles, paths, entities
}

// Entities reports whether the rate limit of a request counts by entities.
func (k *Keeper) Entities(t *Target, path string) bool {
	s := k.set.Load()
	r := s.rule(t)
	return r != nil && r.GroupBy.entities() && !exempt(s.config.Exempt, path)
}

// rule is the most special one that fits; nil is none.
func (s *set) rule(t *Target) *counted {
	for _, r := range s.rules {
		if r.fits(t) {
			return r
		}
	}
	return nil
}

// A Client is who asks.
type Client struct {
	Addr   netip.Addr
	Entity string // of a valid token that the request needs; "" is none, or not known since no rule asks
	// Unasked says that nobody looks whose request it is, though it may need a token: where entities are counted it does not
	// count together with those of nobody, but by its address.
	Unasked bool
}

// A Verdict says how a client stands with the rule that counts.
type Verdict struct {
	Allowed   bool
	Rule      string // its name; "" is no rule
	Limit     int
	Remaining int
	Reset     time.Duration // until the client may ask afresh
	Headers   bool          // tell the client
	Audit     bool          // record a refusal
}

// Take counts a request of a client against the most special rule that fits.
func (k *Keeper) Take(t *Target, path string, c Client, now time.Time) Verdict {
	s := k.set.Load()
	if exempt(s.config.Exempt, path) {
		return Verdict{Allowed: true}
	}
	r := s.rule(t)
	if r == nil {
		return Verdict{Allowed: true}
	}
	v := r.take(c, now)
	v.Headers, v.Audit = s.config.Headers, s.config.Audit
	return v
}

func exempt(list []string, path string) bool {
	for _, e := range list {
		if e == path || strings.HasSuffix(e, "/") && strings.HasPrefix(path, e) {
			return true
		}
	}
	return false
}

func (c *counted) take(who Client, now time.Time) Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	rate := c.Rate
	var w *window
	switch by, secondary := c.Groups(); {
	case by.entities() && who.Entity != "":
		w = windowOf(c, c.entities, who.Entity, now)
	case by.entities():
		rate = secondary
		fallthrough
	default:
		addr := who.Addr.Unmap()
		if by == ByNone || by == ByEntityThenNone && !who.Unasked {
			addr = netip.Addr{}
		}
		w = windowOf(c, c.clients, addr, now)
	}
	if !now.Before(w.start.Add(c.Interval)) {
		w.start, w.used = now, 0
	}
	limit := int(math.Ceil(rate))
	v := Verdict{Rule: c.Name, Limit: limit, Reset: w.start.Add(c.Interval).Sub(now)}
	switch {
	case now.Before(w.blocked):
		v.Reset = w.blocked.Sub(now)
		return v
	case w.used >= limit:
		if c.Block > 0 {
			w.blocked = now.Add(c.Block)
			v.Reset = c.Block
		}
		return v
	}
	w.used++
	v.Allowed, v.Remaining = true, limit-w.used
	return v
}

// windowOf finds or makes the window of who is counted in m. c.mu is held.
func windowOf[K comparable](c *counted, m map[K]*window, who K, now time.Time) *window {
	w := m[who]
	if w == nil {
		bounded.MakeRoom(m, maxClients,
			func(w *window) bool { return !now.Before(w.start.Add(c.Interval)) && !now.Before(w.blocked) },
			func(a, b *window) int { return cmp.Or(a.blocked.Compare(b.blocked), a.start.Compare(b.start)) })
		w = &window{start: now}
		m[who] = w
	}
	return w
}

// ErrNotFound is a rule that does not exist.
var ErrNotFound = errs.New(errs.NotFound, "not found")

// Get reads a rule by its name.
func Get(tx storage.Tx, kind Kind, name string) (*Rule, error) {
	raw, err := tx.Get(kind.dir() + name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &Rule{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("decode quota: %w", err)
	}
	return r, nil
}

// List reads all rules of a kind.
func List(tx storage.Tx, kind Kind) ([]*Rule, error) {
	var out []*Rule
	for kv, err := range tx.Scan(kind.dir(), "") {
		if err != nil {
			return nil, err
		}
		r := &Rule{}
		if err := json.Unmarshal(kv.Value, r); err != nil {
			return nil, fmt.Errorf("decode quota: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Names lists the names of the rules.
func Names(tx storage.Tx, kind Kind, after string, limit int) ([]string, error) {
	return tx.List(kind.dir(), after, limit)
}

// Put stores a rule. Two of a kind about the same requests are refused. moved says
// that leases must be assigned to their rules anew.
func Put(tx storage.Tx, kind Kind, r *Rule) (moved bool, err error) {
	rules, err := List(tx, kind)
	if err != nil {
		return false, err
	}
	var old *Rule
	for _, o := range rules {
		if o.Name == r.Name {
			old = o
		} else if o.same(r) {
			return false, errs.New(errs.Invalid, "quota rule with similar properties exists under the name %q", o.Name)
		}
	}
	if old == nil && len(rules) >= MaxRules {
		return false, errs.New(errs.Invalid, "there are %d quotas already, and no more can be made", len(rules))
	}
	if kind == Leases {
		if moved, err = count(tx, old, r); err != nil {
			return false, err
		}
	}
	r.Version = 1
	raw, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	return moved, tx.Put(kind.dir()+r.Name, raw)
}

// count gives a rule for leases its id and count, those of the old one where both
// are about the same leases.
func count(tx storage.Tx, old, r *Rule) (moved bool, err error) {
	if old != nil && old.same(r) && old.Inheritable == r.Inheritable {
		r.ID = old.ID
		return false, nil
	}
	if old != nil {
		if err := tx.Delete(countDir + old.ID); err != nil {
			return false, err
		}
	}
	r.ID = uuid.NewString()
	return true, tx.Put(countDir+r.ID, []byte("0"))
}

// Delete removes a rule. moved is as with Put.
func Delete(tx storage.Tx, kind Kind, name string) (moved bool, err error) {
	r, err := Get(tx, kind, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if r.ID != "" {
		moved, err = true, tx.Delete(countDir+r.ID)
	}
	if err != nil {
		return false, err
	}
	return moved, tx.Delete(kind.dir() + name)
}

// ReadConfig reads the configuration, or its defaults.
func ReadConfig(tx storage.Tx) (*Config, error) {
	raw, err := tx.Get(configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return &Config{Exempt: DefaultExempt()}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("decode the configuration of quotas: %w", err)
	}
	return c, nil
}

// WriteConfig stores the configuration.
func WriteConfig(tx storage.Tx, c *Config) error {
	c.Version = 1
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Put(configKey, raw)
}
