package jwt

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"arca/internal/errs"
)

// A hanging server answers nothing until it is told to; it notes who asks, and
// who has gone away.
type hanging struct {
	*httptest.Server
	asked atomic.Int32
	came  chan struct{}
	left  chan struct{}
	do    atomic.Pointer[http.HandlerFunc]
}

func newHanging(t *testing.T) *hanging {
	t.Helper()
	h := &hanging{came: make(chan struct{}, 1000), left: make(chan struct{}, 1000)}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		if do := h.do.Load(); do != nil {
			(*do)(w, r)
			return
		}
		h.came <- struct{}{}
		<-r.Context().Done()
		h.left <- struct{}{}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hanging) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
}

// However many begin to log in at a provider that hangs, one asks it, and nothing
// is left of it when they have gone. What fails is not tried again at once.
func TestProviderThatHangs(t *testing.T) {
	t.Parallel()
	h := newHanging(t)
	c := &config{Discovery: h.URL, DiscoveryCA: h.ca(), ClientID: "id", ClientSecret: "secret"}
	var p providers
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var crowd atomic.Int32
	for range maxWaiting + 50 {
		all.Go(func() {
			_, err := p.of(ctx, "mount", c)
			switch {
			case errs.Is(err, errs.Unavailable):
				if crowd.Add(1) == 50 { // the rest waits
					cancel()
				}
			case err == nil:
				t.Error("there is no provider")
			}
		})
	}
	<-h.came
	all.Wait()
	<-h.left
	if n := h.asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if p.waiting.all != 0 || len(p.waiting.taken) != 0 {
		t.Errorf("%d wait", p.waiting.all)
	}
	for range 3 {
		if _, err := p.of(t.Context(), "mount", c); !errs.Is(err, errs.Invalid) {
			t.Errorf("error %v", err)
		}
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("%d requests, want no more", n)
	}
	good := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": h.URL, "authorization_endpoint": h.URL + "/a", "token_endpoint": h.URL + "/t", "jwks_uri": h.URL + "/k",
		})
	})
	h.do.Store(&good)
	other := &config{Discovery: h.URL, DiscoveryCA: h.ca(), ClientID: "other", ClientSecret: "secret"}
	for range 3 {
		if _, err := p.of(t.Context(), "mount", other); err != nil {
			t.Error(err)
		}
	}
	if n := h.asked.Load(); n != 2 {
		t.Errorf("%d requests, want one more", n)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	var s slots
	var leave []func()
	for range 3 {
		l, err := s.enter("a", 3)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	if _, err := s.enter("a", 3); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a fourth: %v", err)
	}
	if _, err := s.enter("b", 3); err != nil {
		t.Errorf("another mount: %v", err)
	}
	leave[0]()
	if _, err := s.enter("a", 3); err != nil {
		t.Errorf("after one has left: %v", err)
	}
}

// Clients that go away neither keep keys from being fetched, nor have them fetched
// again and again.
func TestFetchCutOff(t *testing.T) {
	t.Parallel()
	h := newHanging(t)
	came, answer := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-answer
		_, _ = w.Write([]byte(`{"keys":[` + publicJWK + `]}`))
	})
	h.do.Store(&slow)
	var sets keySets
	s, err := sets.of(&config{JWKS: h.URL, JWKSCA: h.ca()})
	if err != nil {
		t.Fatal(err)
	}
	p := s.places[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		_, err := p.current(ctx, false)
		ended <- err
	}()
	<-came
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := p.current(gone, false); err == nil { // while the other one still waits
		t.Error("there are no keys")
	}
	cancel()
	close(answer)
	if err := <-ended; err != nil {
		t.Errorf("the keys that came all the same: %v", err)
	}
	for range 3 {
		if keys, err := p.current(t.Context(), false); err != nil || len(keys.Keys) != 1 {
			t.Errorf("keys %v, %v", keys, err)
		}
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// The key is that of RFC 7515, appendix A.3.
const publicJWK = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`

// Keys that are there for something else check no signatures.
func TestKeysForOtherUses(t *testing.T) {
	t.Parallel()
	for more, want := range map[string]bool{
		``: true, `,"use":"sig"`: true, `,"use":"enc"`: false, `,"key_ops":["verify"]`: true, `,"key_ops":["deriveKey"]`: false,
		`,"key_ops":[]`: false, `,"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"`: false, `,"alg":"ES256"`: true,
	} {
		if _, ok := verifying([]byte(publicJWK[:len(publicJWK)-1] + more + "}")); ok != want {
			t.Errorf("with %s: %t", more, ok)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	n := func(s string) any { return json.Number(s) }
	for _, c := range []struct {
		a, b any
		want bool
	}{
		{n("9007199254740993"), n("9007199254740993"), true},
		{n("9007199254740993"), n("9007199254740992"), false},
		{n("1"), n("1.0"), true},
		{n("1000"), n("1e3"), true},
		{n("0.001"), n("1E-3"), true},
		{n("10"), n("1"), false},
		{n("0.1"), n("1"), false},
		{n("-1"), n("1"), false},
		{n("0"), n("-0.0"), true},
		{n("100e-2"), n("1"), true},
		{n("1e999999999999"), n("1e999999999999"), true},
		{n("1e999999999999"), n("1e999999999998"), false},
		{n("1"), "1", false},
		{"a", "a", true},
		{true, true, true},
		{true, "true", false},
	} {
		if equal(c.a, c.b) != c.want || equal(c.b, c.a) != c.want {
			t.Errorf("%v and %v: want %t", c.a, c.b, c.want)
		}
	}
}
