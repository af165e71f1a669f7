package kmip

import (
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Limits of how many operations a role, or one client of it, may ask for in a second, by
// what config and the role say. Each node counts by itself. Every operation of a batch
// counts: one message is no way around.

const (
	maxRate     = 1_000_000
	maxBuckets  = 20_000 // clients that are counted at a time, and roles
	limitedName = "rate_limited"
)

// rates are operations a second; 0 is no limit, in a role: what config says.
type rates struct {
	Role   int `json:"role,omitempty"`
	Client int `json:"client,omitempty"`
}

func (r rates) check(role, client string) error {
	if r.Role < 0 || r.Role > maxRate || r.Client < 0 || r.Client > maxRate {
		return errs.New(errs.Invalid, "%s and %s must be from 1 to %d operations a second, or 0 for no limit of their own", role, client, maxRate)
	}
	return nil
}

// over are the rates of a role above those of config.
func (r rates) over(config rates) rates {
	if r.Role == 0 {
		r.Role = config.Role
	}
	if r.Client == 0 {
		r.Client = config.Client
	}
	return r
}

// A bucket fills by its rate, up to what comes in a second. A batch may take more than
// there is, which is then missing: else a bucket that is smaller would never serve it.
type bucket struct {
	left float64
	rate float64
	at   time.Time
}

// share is how much of what fits is in the bucket: 1 when it is full, less than 0 with a debt.
func (b *bucket) share(now time.Time) float64 {
	return min(1, b.left/b.rate+max(0, now.Sub(b.at).Seconds()))
}

func (b *bucket) fill(rate int, now time.Time) {
	b.rate = float64(rate)
	b.left = min(b.rate, b.left+max(0, now.Sub(b.at).Seconds())*b.rate)
	b.at = now
}

// A throttle is the buckets of a mount's roles and clients at a node.
type throttle struct {
	mu      sync.Mutex
	roles   buckets // guarded by mu
	clients buckets // guarded by mu
}

type buckets map[string]*bucket

// take reports whether n operations may be done now, and counts them if so.
func (l *throttle) take(r rates, role, serial string, n int, now time.Time) bool {
	if r == (rates{}) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ofRole, ofClient := l.roles.of(role, r.Role, now), l.clients.of(role+"/"+serial, r.Client, now)
	for _, b := range []*bucket{ofRole, ofClient} {
		if b != nil && b.left < 1 {
			return false
		}
	}
	for _, b := range []*bucket{ofRole, ofClient} {
		if b != nil {
			b.left -= float64(n)
		}
	}
	return true
}

// of is a key's bucket, filled up to now; nil without a limit.
func (all *buckets) of(key string, rate int, now time.Time) *bucket {
	if rate == 0 {
		return nil
	}
	b := (*all)[key]
	if b == nil {
		all.makeRoom(now)
		b = &bucket{left: float64(rate), at: now}
		(*all)[key] = b
	}
	b.fill(rate, now)
	return b
}

// makeRoom forgets the half that has the least to be remembered for: a bucket that is full is
// as one that is new, and those who owe the most are kept.
func (all *buckets) makeRoom(now time.Time) {
	if *all == nil {
		*all = buckets{}
	}
	if len(*all) < maxBuckets {
		return
	}
	keys := slices.Collect(maps.Keys(*all))
	sort.Slice(keys, func(i, j int) bool { return (*all)[keys[i]].share(now) > (*all)[keys[j]].share(now) })
	for _, key := range keys[:maxBuckets/2] {
		delete(*all, key)
	}
}

// ratesOf are the rates of a connection's role. It reads them anew when roles have
// changed.
func (v *server) ratesOf(conn *connection, at *place) rates {
	if conn.role == "" {
		return rates{}
	}
	if now := v.generation.Load(); !conn.rated || conn.ratedAt != now {
		err := v.host.View(v.ctx, at.Mount, func(tx storage.Tx) error {
			who, err := v.engine.whose(tx, conn.certs, conn.subject, time.Now())
			if err == nil {
				conn.rates = who.role.Rates
			}
			return err
		})
		if err != nil {
			return conn.rates.over(at.rates) // it is asked again, and the message hears what is wrong
		}
		conn.rated, conn.ratedAt = true, now
	}
	return conn.rates.over(at.rates)
}

// errLimited is the refusal of what is above the rate. The client may come again.
func errLimited() *fault {
	return newer(fail(ttlv.ResultReasonGeneralFailure, "too many operations: the role, or this client, has a limit for each second; try again later"),
		ttlv.ResultReasonServerLimitExceeded)
}

// refused answers all of a message alike.
func (b *batch) refused(m *message, f *fault) []reply {
	var out []reply
	for i := range m.items {
		out = append(out, m.items[i].failed(b.age(f)))
	}
	return out
}
