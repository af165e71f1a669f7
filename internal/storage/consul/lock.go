package consul

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"

	api "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/storage/remote"
)

const (
	// Sessions live as long as they are renewed within this time, and up to twice of it: Consul takes no less.
	leastTTL   = 10 * time.Second
	defaultTTL = 15 * time.Second
	mostTTL    = 24 * time.Hour
)

// A Lock is a key that a session holds; it goes with the session. It is safe for concurrent use.
type Lock struct {
	kv  *kv
	key string
	ttl time.Duration // of sessions, at least

	mu       sync.Mutex
	sessions map[string]string // of our claims
}

type lockValue struct {
	ID     string `json:"id"`
	Holder string `json:"holder"`
}

// OpenLock connects.
func OpenLock(ctx context.Context, cfg Config) (*Lock, error) {
	s, ttl, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	l := &Lock{kv: s, key: s.path + "lock", ttl: ttl, sessions: map[string]string{}}
	if _, err := l.Holder(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// Close implements remote.Lock.
func (l *Lock) Close() error {
	l.kv.c.Close()
	return nil
}

func (l *Lock) session(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[id]
}

// Claim implements remote.Lock.
func (l *Lock) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if err := l.Release(ctx, c.After); err != nil {
		return remote.Holder{}, err
	}
	if !c.Steal { // a session is a write of Consul's: not for everyone who only looks
		if h, err := l.Holder(ctx); err != nil || h.ID != "" {
			return h, err
		}
	}
	// A session may end long before its time: with the node that its agent is, or that node's health. Whoever had the lock then rests on its
	// lease, so nobody has the lock before that is over. For a claim that steals nobody waits.
	delay := c.TTL
	if c.Steal {
		delay = 0
	}
	session, err := l.create(ctx, max(c.TTL, l.ttl), delay)
	if err != nil {
		return remote.Holder{}, err
	}
	taken, err := l.acquire(ctx, session, lockValue{c.ID, c.Value})
	if err == nil && !taken && c.Steal {
		if err = l.kv.remove(ctx, l.key, false); err == nil {
			taken, err = l.acquire(ctx, session, lockValue{c.ID, c.Value})
		}
	}
	if err == nil && taken {
		l.mu.Lock()
		l.sessions = map[string]string{c.ID: session} // one claim at a time
		l.mu.Unlock()
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	_ = l.end(ctx, session) // else it ends by itself
	if err != nil {
		return remote.Holder{}, err
	}
	h, err := l.Holder(ctx)
	if h.ID == "" {
		h.Left = c.TTL // of whoever had it: it is not to be asked for all the time
	}
	return h, err
}

// Renew implements remote.Lock: the session lives, and after it was lengthened it still has the key.
func (l *Lock) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if session := l.session(c.ID); session != "" {
		alive, err := l.renew(ctx, session)
		var e entry
		if err == nil && alive {
			if e, _, err = l.kv.entry(ctx, l.key); l.kv.IsNotFound(err) {
				err = nil
			}
		}
		if err != nil {
			return remote.Holder{}, err
		}
		if e.Session == session {
			return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
		}
	}
	h, err := l.Holder(ctx)
	if h.ID == c.ID { // its session has ended, and the key is about to go
		h = remote.Holder{}
	}
	return h, err
}

// create makes a session. When it ends, nobody can have its key for as long as delay.
func (l *Lock) create(ctx context.Context, ttl, delay time.Duration) (string, error) {
	raw, err := l.kv.do(ctx, api.Request{Method: api.Put, Path: "/v1/session/create", Body: marshal(map[string]string{
		"Name": "arca", "TTL": ttl.String(), "LockDelay": delay.String(), "Behavior": "delete",
	})})
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if json.Unmarshal(raw, &made) != nil || made.ID == "" {
		return "", errs.New(errs.Unavailable, "Consul's answer of a session is not one")
	}
	return made.ID, nil
}

func (l *Lock) acquire(ctx context.Context, session string, v lockValue) (bool, error) {
	raw, err := l.kv.do(ctx, api.Request{Method: api.Put, Path: address(l.key), Query: url.Values{"acquire": {session}}, Body: marshal(v)})
	return strings.TrimSpace(string(raw)) == "true", err
}

// renew lengthens a session, if it lives.
func (l *Lock) renew(ctx context.Context, session string) (alive bool, err error) {
	_, err = l.kv.do(ctx, api.Request{Method: api.Put, Path: "/v1/session/renew/" + url.PathEscape(session)})
	if l.kv.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// end gives the key back, if the session has it, and ends the session: in this order nobody has to wait for the key.
func (l *Lock) end(ctx context.Context, session string) error {
	if _, err := l.kv.do(ctx, api.Request{Method: api.Put, Path: address(l.key), Query: url.Values{"release": {session}}}); err != nil {
		return err
	}
	_, err := l.kv.do(ctx, api.Request{Method: api.Put, Path: "/v1/session/destroy/" + url.PathEscape(session)})
	return err
}

// Holder implements remote.Lock.
func (l *Lock) Holder(ctx context.Context) (remote.Holder, error) {
	e, value, err := l.kv.entry(ctx, l.key)
	if l.kv.IsNotFound(err) || err == nil && e.Session == "" {
		return remote.Holder{}, nil
	}
	if err != nil {
		return remote.Holder{}, err
	}
	var v lockValue
	if err := json.Unmarshal(value, &v); err != nil {
		return remote.Holder{}, errs.New(errs.Failed, "the entry %q in Consul was not written by arca", l.key)
	}
	return remote.Holder{ID: v.ID, Value: v.Holder, Left: l.ttl}, nil
}

// Release implements remote.Lock.
func (l *Lock) Release(ctx context.Context, id string) error {
	session := l.session(id)
	if session == "" {
		return nil
	}
	if err := l.end(ctx, session); err != nil {
		return err
	}
	l.mu.Lock()
	delete(l.sessions, id)
	l.mu.Unlock()
	return nil
}
