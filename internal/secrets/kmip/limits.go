package kmip

import (
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
	maxBuckets  = 20_000 // clients and roles that are counted at a time
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
	at   time.Time
}

func (b *bucket) fill(rate int, now time.Time) {
	b.left = min(float64(rate), b.left+max(0, now.Sub(b.at).Seconds())*float64(rate))
	b.at = now
}

// A throttle is the buckets of a mount's clients at a node.
type throttle struct {
	mu  sync.Mutex
	all map[string]*bucket // guarded by mu
}

// take reports whether n operations may be done now, and counts them if so.
func (l *throttle) take(r rates, role, serial string, n int, now time.Time) bool {
	if r == (rates{}) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var asked [2]*bucket
	for i, b := range []struct {
		rate int
		key  string
	}{{r.Role, role}, {r.Client, role + "/" + serial}} {
		if b.rate == 0 {
			continue
		}
		have := l.all[b.key]
		if have == nil {
			l.makeRoom(now)
			have = &bucket{left: float64(b.rate), at: now}
			l.all[b.key] = have
		}
		have.fill(b.rate, now)
		if have.left < 1 {
			return false
		}
		asked[i] = have
	}
	for _, b := range asked {
		if b != nil {
			b.left -= float64(n)
		}
	}
	return true
}

// makeRoom forgets those who have not asked for so long that their buckets are full, or
// nearly: a debt is at most that of one batch. mu is held.
func (l *throttle) makeRoom(now time.Time) {
	if l.all == nil {
		l.all = map[string]*bucket{}
	}
	if len(l.all) < maxBuckets {
		return
	}
	for _, old := range []time.Duration{time.Hour, time.Minute, time.Second, 0} {
		for k, b := range l.all {
			if now.Sub(b.at) >= old {
				delete(l.all, k)
			}
		}
		if len(l.all) < maxBuckets/2 {
			return
		}
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
			who, err := v.engine.whose(tx, conn.certs, time.Now())
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
func (b *batch) refused(m *message, f *fault) []*ttlv.Node {
	var answers []*ttlv.Node
	for i := range m.items {
		answers = append(answers, m.items[i].answer(ttlv.ResultStatusOperationFailed, b.age(f)))
	}
	return answers
}
