package cert

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A CRL that has a URL is fetched again when its issuer promises the next one, but within refreshEvery, as a certificate
// may be revoked before. While its place does not answer, the one at hand holds, and is tried again after retryEvery.
const (
	lookEvery    = time.Minute
	refreshEvery = time.Hour
	retryEvery   = 5 * time.Minute
	maxCRL       = 16 << 20 // bytes
	maxFetches   = 8        // at a time
	maxURL       = 2048
	refreshPath  = "crls-refresh/"
)

func dueAfter(now, next time.Time) time.Time {
	at := now.Add(refreshEvery)
	if next.After(now) && next.Before(at) {
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

// A fetcher gets CRLs, so many at a time.
type fetcher struct {
	slots  chan struct{}
	client *http.Client
}

func newFetcher(client *http.Client) fetcher { return fetcher{make(chan struct{}, maxFetches), client} }

func (f *fetcher) get(ctx context.Context, place string) ([]byte, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errs.New(errs.Unavailable, "too many CRLs are being fetched")
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, errs.New(errs.Invalid, "fetch the CRL: %w", err)
	}
	res, err := f.client.Do(req)
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
	failed := map[string]time.Time{} // when to try again, by mount and CRL
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if host.Leads() {
			e.refreshAll(ctx, host, failed)
		}
	}
}

func (e *Engine) refreshAll(ctx context.Context, host engine.Host, failed map[string]time.Time) {
	mounts, err := host.Mounts(ctx)
	if err != nil {
		if ctx.Err() == nil {
			host.Log().Error("look for CRLs that are due", "error", err)
		}
		return
	}
	now := time.Now()
	for key, at := range failed {
		if !now.Before(at) {
			delete(failed, key)
		}
	}
	for _, m := range mounts {
		var names []string
		err := host.View(ctx, m.Mount, func(tx storage.Tx) (err error) {
			names, err = dueCRLs(tx, now)
			return err
		})
		for _, name := range names {
			key := m.Mount.ID + "/" + name
			if failed[key].IsZero() && ctx.Err() == nil {
				_, err := host.Handle(ctx, &engine.Request{
					ID: uuid.NewString(), Op: engine.OpUpdate, Namespace: m.NamespacePath, Path: m.Mount.Path + refreshPath + name,
				})
				if err != nil && !errs.Is(err, errs.NotActive) {
					failed[key] = now.Add(retryEvery)
					host.Log().Warn("a CRL cannot be fetched; the one at hand holds", "mount", m.NamespacePath+m.Mount.Path, "crl", name, "error", err)
				}
			}
		}
		if err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
			host.Log().Error("look for CRLs that are due", "mount", m.NamespacePath+m.Mount.Path, "error", err)
		}
	}
}

// dueCRLs names those that are to be fetched.
func dueCRLs(tx storage.Tx, now time.Time) (names []string, err error) {
	list, err := tx.List("crl/", "", 0)
	if err != nil {
		return nil, err
	}
	for _, name := range list {
		c, err := getCRL(tx, name)
		if err != nil {
			return nil, err
		}
		if c.URL != "" && !now.Before(c.Due) {
			names = append(names, name)
		}
	}
	return names, nil
}

// refresh fetches a CRL again, when it is due.
func (e *Engine) refresh(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := getCRL(call.Tx, in.Name)
	if storage.IsNotFound(err) || err == nil && (c.URL == "" || call.Now.Before(c.Due)) {
		return nil, nil // it was deleted or written meanwhile
	}
	if err != nil {
		return nil, err
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
