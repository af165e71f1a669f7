package seals

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A vault is a stand-in for another server's token store, in memory and in virtual time.
type vault struct {
	mu          *sync.Mutex
	period, ttl time.Duration
	until       time.Time
	renewable   bool
	down        bool
	renewals    int
}

func (v *vault) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}, Request: r}, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.down:
		return nil, io.ErrUnexpectedEOF
	case v.period > 0 && time.Now().After(v.until):
		return answer(403, `{"errors":["permission denied"]}`)
	case r.URL.Path == "/v1/auth/token/renew-self" && !v.renewable:
		return answer(400, `{"errors":["lease is not renewable"]}`)
	case r.URL.Path == "/v1/auth/token/renew-self":
		v.renewals++
		v.until = time.Now().Add(v.period)
		return answer(200, `{"auth":{"lease_duration":`+seconds(v.period)+`,"renewable":true}}`)
	case r.URL.Path == "/v1/auth/token/lookup-self":
		return answer(200, `{"data":{"ttl":`+seconds(v.ttl)+`}}`)
	}
	return answer(404, "")
}

func seconds(d time.Duration) string {
	return strings.TrimSuffix(d.Truncate(time.Second).String(), "s")
}

// A token with a period of a minute lives as long as the server, outages included, without
// anybody asking the seal; one that cannot be renewed is told of, one without an end is well.
func TestTransitToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		v          vault
		options    []string
		well       bool
		most, less int
	}{
		{"periodic", vault{period: 59 * time.Second, renewable: true}, nil, true, 200, 180},
		{"root", vault{}, nil, true, 0, 0},
		{"not renewable", vault{ttl: 50 * time.Second}, nil, false, 0, 0},
		{"no renewal", vault{period: 59 * time.Second, renewable: true}, []string{"disable_renewal", "true"}, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := c.v
				v.mu = &sync.Mutex{}
				after := func(d time.Duration, look func()) {
					time.Sleep(d)
					synctest.Wait()
					v.mu.Lock()
					defer v.mu.Unlock()
					look()
				}
				v.until = time.Now().Add(v.period)
				s := must(t, none, stanza("transit", append([]string{"mount_path", "transit", "key_name", "k", "token", "t", "address", "https://x"}, c.options...)...)).(*transit)
				s.client.HTTP = &http.Client{Transport: &v}
				ctx, cancel := context.WithCancel(t.Context())
				var last error
				failures := 0
				go s.Keep(ctx, func(err error) {
					v.mu.Lock()
					defer v.mu.Unlock()
					if last = err; err != nil {
						failures++
					}
				})
				after(time.Hour, func() {
					if (last == nil) != c.well || v.renewals > c.most || v.renewals < c.less || v.renewals > 0 && time.Now().After(v.until) {
						t.Errorf("%v after %d renewals", last, v.renewals)
					}
					if failures > 80 {
						t.Errorf("tried %d times in an hour", failures)
					}
					v.down = true
				})
				if c.less > 0 {
					after(25*time.Second, func() {
						if last == nil {
							t.Error("an outage is not told")
						}
						v.down = false
					})
					after(20*time.Second, func() {
						if last != nil || time.Now().After(v.until) {
							t.Errorf("after an outage: %v", last)
						}
					})
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
