package objects

import (
	"context"
	"sync"
	"time"

	"arca/internal/storage/remote"
)

// A lock in memory says whose turn it is where several share a bucket: S3 has none.
type lock struct {
	mu    sync.Mutex
	h     remote.Holder
	until time.Time
}

func (l *lock) Claim(_ context.Context, c remote.Claim) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if free := l.h.ID == "" || time.Now().After(l.until); free || c.Steal || c.After != "" && l.h.ID == c.After {
		l.h, l.until = remote.Holder{ID: c.ID, Value: c.Value}, time.Now().Add(c.TTL)
	}
	h := l.h
	h.Left = time.Until(l.until)
	return h, nil
}

func (l *lock) Renew(_ context.Context, c remote.Claim) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h.ID == c.ID {
		l.until = time.Now().Add(c.TTL)
	}
	h := l.h
	h.Left = time.Until(l.until)
	return h, nil
}

func (l *lock) Release(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h.ID == id {
		l.h = remote.Holder{}
	}
	return nil
}

func (l *lock) Holder(context.Context) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.h
	h.Left = max(0, time.Until(l.until))
	return h, nil
}

func (*lock) Close() error { return nil }
