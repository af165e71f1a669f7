package cert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"arca/internal/bounded"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A CRL that has a URL is fetched again when its issuer promises the next one, but within refreshEvery, as a certificate
// may be revoked before. While its place does not answer, the one at hand holds, and is tried again after retryEvery, and then
// twice as long each time, up to maxRetry.
const (
	lookEvery    = time.Minute
	refreshEvery = time.Hour
	retryEvery   = 5 * time.Minute
	maxRetry     = time.Hour
	maxCRL       = 16 << 20 // bytes
	maxFetches   = 64       // of requests, at a time
	maxOwn       = 2        // of these those of one mount
	maxRefreshed = 8        // mounts at a time
	maxURL       = 2048
	refreshPath  = "crls-refresh/"
)

func dueAfter(now, next time.Time) time.Time {
	at := now.Add(refreshEvery)
	if !next.IsZero() && next.Before(at) { // also one that is past: its issuer is late
		at = next
	}
	if least := now.Add(lookEvery); at.Before(least) {
		at = least
	}
	return at
}

func checkPlace(place string) error {
	u, err := url.Parse(place)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(place) > maxURL {
		return errs.New(errs.Invalid, "url is no http or https URL without a user, of at most %d bytes", maxURL)
	}
	return nil
}

// A fetcher gets CRLs: so many at a time for requests, and so many of one mount's, that the places of one tenant hold up
// no other's.
type fetcher struct {
	client *http.Client
	places *bounded.Places // of requests, by mounts
}

func newFetcher(client *http.Client) *fetcher {
	return &fetcher{client: client, places: bounded.NewPlaces(maxOwn, maxFetches)}
}

// forRequest is get, for a request to a mount.
func (f *fetcher) forRequest(ctx context.Context, mount, place string) ([]byte, error) {
	leave, ok := f.places.Try(mount)
	if !ok {
		return nil, errs.New(errs.Unavailable, "too many CRLs are being fetched")
	}
	defer leave()
	return f.get(ctx, place)
}

func (f *fetcher) get(ctx context.Context, place string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, errs.New(errs.Invalid, "fetch the CRL: %w", err)
	}
	res, err := f.client.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // its own text shows the whole URL
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "fetch the CRL: %w", err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxCRL+1))
	switch {
	case err != nil:
		return nil, errs.New(errs.Invalid, "fetch the CRL: %w", err)
	case res.StatusCode != http.StatusOK:
		return nil, errs.New(errs.Invalid, "fetch the CRL: status %d", res.StatusCode)
	case len(raw) > maxCRL:
		return nil, errs.New(errs.TooLarge, "the CRL has more than %d bytes", maxCRL)
	}
	return raw, nil
}

// Run implements engine.Runner: the active node fetches again what is due.
func (e *Engine) Run(ctx context.Context, host engine.Host) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	r := &refresher{host: host, failed: map[string]*pause{}, busy: map[string]bool{}, whole: map[string]bool{}}
	defer r.work.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if host.Leads() {
			r.look(ctx)
		} else {
			clear(r.whole) // nodes of earlier versions may have written meanwhile
		}
	}
}

// A refresher has CRLs fetched, one after another for each mount.
type refresher struct {
	host engine.Host
	work sync.WaitGroup

	mu     sync.Mutex
	failed map[string]*pause // by mount and CRL; guarded by mu
	busy   map[string]bool   // mounts, by id; guarded by mu

	// whole are the mounts whose CRLs are all known to be listed by the time when they
	// are due. Those that earlier versions wrote are not, and are once looked through.
	whole map[string]bool
}

// A pause is until when a place that does not answer is not asked.
type pause struct {
	until time.Time
	last  time.Duration
}

// look begins with what is due, in as many mounts as it may.
func (r *refresher) look(ctx context.Context) {
	mounts, err := r.host.Mounts(ctx)
	if err != nil {
		r.ill(ctx, "", err)
		return
	}
	r.forget(time.Now())
	// Nobody is always last.
	rand.Shuffle(len(mounts), func(i, j int) { mounts[i], mounts[j] = mounts[j], mounts[i] }) //nolint:gosec // an order
	there := make(map[string]bool, len(mounts))
	for _, m := range mounts {
		there[m.Mount.ID] = true
	}
	maps.DeleteFunc(r.whole, func(id string, _ bool) bool { return !there[id] })
	for _, m := range mounts {
		names, err := r.due(ctx, m)
		if err != nil {
			r.ill(ctx, m.NamespacePath+m.Mount.Path, err)
		}
		if len(names) > 0 && r.enter(m.Mount.ID) {
			r.work.Go(func() {
				defer r.leave(m.Mount.ID)
				for _, name := range names {
					r.refresh(ctx, m, name)
				}
			})
		}
	}
}

func (r *refresher) ill(ctx context.Context, mount string, err error) {
	if ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
		r.host.Log().Error("look for CRLs that are due", "mount", mount, "error", err)
	}
}

func (r *refresher) enter(mount string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[mount] || len(r.busy) >= maxRefreshed {
		return false
	}
	r.busy[mount] = true
	return true
}

func (r *refresher) leave(mount string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, mount)
}

// due names the CRLs of a mount that are to be fetched now.
func (r *refresher) due(ctx context.Context, m engine.Place) (names []string, err error) {
	now := time.Now()
	err = r.host.View(ctx, m.Mount, func(tx storage.Tx) (err error) {
		if names, err = dueCRLs(tx, now, func(name string) bool { return r.waits(m.Mount.ID, name, now) }); err != nil || r.whole[m.Mount.ID] {
			return err
		}
		more, err := unlisted(tx)
		r.whole[m.Mount.ID] = err == nil && len(more) == 0
		names = append(names, more...)
		return err
	})
	return names, err
}

// waits reports whether a CRL's place did not answer, and is not asked yet.
func (r *refresher) waits(mount, name string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.failed[mount+"/"+name]
	return p != nil && now.Before(p.until)
}

func (r *refresher) refresh(ctx context.Context, m engine.Place, name string) {
	if ctx.Err() != nil {
		return
	}
	_, err := r.host.Handle(ctx, &engine.Request{
		ID: uuid.NewString(), Op: engine.OpUpdate, Namespace: m.NamespacePath, Path: m.Mount.Path + refreshPath + name,
	})
	key := m.Mount.ID + "/" + name
	r.mu.Lock()
	defer r.mu.Unlock()
	switch p := r.failed[key]; {
	case err == nil:
		delete(r.failed, key)
	case errs.Is(err, errs.NotActive) || ctx.Err() != nil: // the next active node does it
	default:
		if p == nil {
			p = &pause{last: retryEvery / 2}
			r.failed[key] = p
		}
		p.last = min(2*p.last, maxRetry)
		p.until = time.Now().Add(p.last)
		r.host.Log().Warn("a CRL cannot be fetched; the one at hand holds", "mount", m.NamespacePath+m.Mount.Path, "crl", name, "error", err)
	}
}

// forget drops the pauses that have been over for long: of CRLs that are gone.
func (r *refresher) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.failed, func(_ string, p *pause) bool { return now.After(p.until.Add(2 * maxRetry)) })
}

// maxDue is how many CRLs of a mount are looked at together.
const maxDue = 1000

// dueCRLs names those that are to be fetched, the longest due first.
func dueCRLs(tx storage.Tx, now time.Time, waits func(name string) bool) (names []string, err error) {
	end := fmt.Sprintf("%012d", now.Unix())
	for key, err := range tx.Keys(dueDir, "") {
		if err != nil {
			return nil, err
		}
		at, name, _ := strings.Cut(key[len(dueDir):], "/")
		if at > end || len(names) == maxDue {
			break
		}
		if !waits(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// unlisted names CRLs that are not listed by the time when they are due, which
// refreshing them mends.
func unlisted(tx storage.Tx) (names []string, err error) {
	for kv, err := range tx.Scan("crl/", "") {
		if err != nil {
			return nil, err
		}
		c, name := &crl{}, kv.Key[len("crl/"):]
		if err := json.Unmarshal(kv.Value, c); err != nil {
			return nil, fmt.Errorf("decode CRL %q: %w", name, err)
		}
		if c.URL == "" {
			continue
		}
		if _, err := tx.Get(dueKey(c.Due, name)); storage.IsNotFound(err) {
			if names = append(names, name); len(names) == maxDue {
				return names, nil
			}
		} else if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// refresh fetches a CRL again, when it is due.
func (e *Engine) refresh(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := getCRL(call.Tx, in.Name)
	if storage.IsNotFound(err) || err == nil && c.URL == "" {
		return nil, nil // it was deleted or written meanwhile
	}
	if err != nil {
		return nil, err
	}
	if _, err := call.Tx.Get(dueKey(c.Due, in.Name)); storage.IsNotFound(err) { // an earlier version wrote it
		return nil, c.put(call.Tx, in.Name, nil)
	} else if err != nil {
		return nil, err
	}
	if call.Now.Before(c.Due) {
		return nil, nil // as above
	}
	got, ok := call.Asked.(*fetched)
	if !ok || got.url != c.URL {
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			raw, err := e.fetcher.get(ctx, c.URL)
			return &fetched{c.URL, raw}, err
		})
	}
	return nil, e.setCRL(call, in.Name, c.URL, got.raw)
}

// fetched is what a place has answered.
type fetched struct {
	url string
	raw []byte
}
