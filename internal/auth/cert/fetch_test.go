package cert

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
	"arca/internal/telemetry"
)

// A hall of one mount, which does what the real one does for a Runner.
type hall struct {
	e  *Engine
	db *storage.DB
}

func (h *hall) Leads() bool              { return true }
func (h *hall) Changed() <-chan struct{} { return nil }

func (h *hall) Metrics() *telemetry.Registry { return nil }
func (h *hall) Log() *slog.Logger            { return slog.New(slog.DiscardHandler) }

func (h *hall) Mounts(context.Context) ([]engine.Place, error) {
	return []engine.Place{{Mount: &engine.Mount{ID: "id", Path: "auth/cert/"}}}, nil
}

func (h *hall) View(ctx context.Context, _ *engine.Mount, fn func(tx storage.Tx) error) error {
	return h.db.View(ctx, fn)
}

func (h *hall) Watch(*engine.Mount, func(keys, prefixes []string)) (cancel func()) { return func() {} }

func (h *hall) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	name, ok := strings.CutPrefix(req.Path, "auth/cert/"+refreshPath)
	if !ok {
		return nil, errs.New(errs.NotFound, "%s", req.Path)
	}
	return nil, h.update(ctx, func(call *engine.Call) error {
		_, err := h.e.refresh(ctx, call, nameIn{name})
		return err
	})
}

func (h *hall) update(ctx context.Context, fn func(call *engine.Call) error) error {
	var asked any
	for {
		err := h.db.Update(ctx, func(tx storage.Tx) error {
			return fn(&engine.Call{Tx: tx, Now: time.Now(), Asked: asked, Mount: &engine.Mount{ID: "id"}})
		})
		var q *engine.Question
		if !errors.As(err, &q) {
			return err
		}
		if asked, err = q.Run(ctx); err != nil {
			return err
		}
	}
}

// A place answers with a CRL of these serial numbers, or fails with none.
type place struct {
	mu       sync.Mutex // guards what follows t and key
	t        *testing.T
	key      *ecdsa.PrivateKey
	revokes  []int64
	validFor time.Duration
	asked    int
}

// RoundTrip implements http.RoundTripper.
func (p *place) RoundTrip(*http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.revokes == nil {
		return nil, errors.New("nobody is there")
	}
	var list []x509.RevocationListEntry
	for _, n := range p.revokes {
		list = append(list, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: time.Now()})
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}
	raw, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(p.validFor), RevokedCertificateEntries: list,
	}, ca, p.key)
	if err != nil {
		p.t.Error(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(raw))}, nil
}

func (p *place) set(validFor time.Duration, revokes ...int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revokes, p.validFor = revokes, validFor
}

func (p *place) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// TestRefresh has a CRL fetched again by its time, and kept while its place is ill.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p := &place{t: t, key: key, revokes: []int64{1, 2}, validFor: 10 * time.Minute}
		e := New()
		e.fetcher.client = &http.Client{Transport: p}
		h := &hall{e, storage.Open(storagetest.NewMap(), storage.Config{})}
		defer func() {
			if err := h.db.Close(); err != nil {
				t.Error(err)
			}
		}()
		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { e.Run(ctx, h); close(ended) }()
			return func() { cancel(); <-ended }
		}
		ctx, stop := t.Context(), run()
		defer func() { stop() }()
		if err := h.update(ctx, func(call *engine.Call) error {
			_, err := e.writeCRL(ctx, call, crlIn{Name: "one", URL: "http://ca/crl"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		expect := func(what, want string, asked int) {
			t.Helper()
			synctest.Wait()
			var got []string
			if err := h.db.View(ctx, func(tx storage.Tx) error {
				c, err := getCRL(tx, "one")
				if err != nil {
					return err
				}
				got, err = serials(tx, "one", c)
				for _, s := range got {
					if _, err := tx.Get(revokedKey(c.Issuer, s, "one")); err != nil {
						t.Errorf("%s: %s is not revoked: %v", what, s, err)
					}
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if n := p.count(); fmt.Sprint(got) != want || n != asked {
				t.Errorf("%s: revokes %v, want %s; asked %d times, want %d", what, got, want, n, asked)
			}
		}
		expect("at first", "[1 2]", 1)
		p.set(24*time.Hour, 2, 3)
		time.Sleep(9 * time.Minute)
		expect("before the next is promised", "[1 2]", 1)
		time.Sleep(3 * time.Minute)
		expect("when it is", "[2 3]", 2)
		p.set(0)
		time.Sleep(57 * time.Minute)
		expect("before an hour has passed", "[2 3]", 2)
		time.Sleep(4 * time.Minute)
		expect("the place is ill", "[2 3]", 3)
		time.Sleep(16 * time.Minute)
		expect("still", "[2 3]", 5) // after 5 minutes, and 10 more
		p.set(-time.Minute, 4)
		time.Sleep(18 * time.Minute)
		expect("it is well again, and late: each minute", "[4]", 8)
		p.set(time.Hour, 5)
		time.Sleep(2 * time.Minute)
		expect("the next one is there", "[5]", 9)
		// One that an earlier version wrote is not listed by its time.
		if err := h.update(ctx, func(call *engine.Call) error { return call.Tx.DeletePrefix(dueDir) }); err != nil {
			t.Fatal(err)
		}
		p.set(time.Hour, 6)
		time.Sleep(2 * time.Hour)
		expect("listed by none", "[5]", 9)
		stop()
		stop = run()
		time.Sleep(3 * time.Minute)
		expect("after a start", "[6]", 10)
		if err := h.update(ctx, func(call *engine.Call) error {
			_, err := e.deleteCRL(ctx, call, nameIn{"one"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := h.db.View(ctx, func(tx storage.Tx) error {
			for key, err := range tx.Keys("", "") {
				t.Errorf("left: %s, %v", key, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFetchesOfOneMount has one mount's places hang: others' are fetched.
func TestFetchesOfOneMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		f := newFetcher(&http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "hangs" {
				<-hold
			}
			return nil, errors.New("nobody is there")
		})})
		var work sync.WaitGroup
		for range maxOwn {
			work.Go(func() { _, _ = f.forRequest(t.Context(), "a", "http://hangs/crl?token=secret") })
		}
		synctest.Wait()
		if _, err := f.forRequest(t.Context(), "a", "http://x/"); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("one more of the mount's: %v", err)
		}
		_, err := f.forRequest(t.Context(), "b", "http://x/crl?token=secret")
		if err == nil || !strings.Contains(err.Error(), "nobody is there") || strings.Contains(err.Error(), "secret") {
			t.Errorf("another mount's: %v", err)
		}
		close(hold)
		work.Wait()
		if n, mounts := f.places.Taken(); n != 0 || mounts != 0 {
			t.Errorf("left: %d, of %d mounts", n, mounts)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
