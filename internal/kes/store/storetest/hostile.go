package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

// A Hostile says how to test a store against a service that lies.
type Hostile struct {
	URL string // of the service, or its stand-in, which lies not
	// Open opens the store at another address.
	Open func(url string) (store.Store, error)
	// Honest tells requests that are always answered truly, such as logins.
	Honest func(r *http.Request) bool
}

// What a lying service repeats, and no error may.
const repeated = "c2VjcmV0LXRoYXQtYS1zZXJ2aWNlLXJlcGVhdHM="

// A lie answers instead of the service.
type lie func(w http.ResponseWriter, r *http.Request)

func says(code int, body string) lie {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// lies are what services are not expected to say.
func lies() map[string]lie {
	out := map[string]lie{
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"`)
			block := bytes.Repeat([]byte("x"), 1<<16)
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"cut":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "900")
			_, _ = io.WriteString(w, `{"data":`)
		},
		"slow": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush() // so that the client waits for the rest
			<-r.Context().Done()
		},
		"in circles": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "?again")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"deep": says(200, strings.Repeat(`{"data":[`, 200_000)),
	}
	for _, body := range []string{"", "null", "[]", "{}", `"x"`, "5", "true", "<html>", "\x00\xff\xfe", `{"data":5}`, `{"value":[5,null]}`, `[{"name":{}},5]`, `{"data":null}{`} {
		out["200 "+body] = says(200, body)
	}
	out["403"], out["500 in clear"] = says(403, ""), says(500, repeated)
	for _, code := range []int{204, 301, 400, 401, 403, 404, 409, 429, 500, 503} {
		for _, body := range []string{`{"message":"no ` + repeated + `","errors":["` + repeated + `"],"error":{"message":"` + repeated + `"},"codeDesc":"` + repeated + `","__type":"` + repeated + `"}`} {
			out[strconv.Itoa(code)+" "+body] = says(code, body)
		}
	}
	return out
}

// TestHostile lets a service lie in many ways: the store neither crashes nor hangs
// nor tells what was said, reads no key out of it, and works when the lies end.
func TestHostile(t *testing.T, h Hostile) {
	t.Helper()
	target, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	honest := httputil.NewSingleHostReverseProxy(target)
	wrong := httputil.NewSingleHostReverseProxy(target)
	wrong.ModifyResponse = exchangeTypes
	var now atomic.Pointer[lie]
	var exchanging atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if exchanging.Load() && (h.Honest == nil || !h.Honest(r)) {
			wrong.ServeHTTP(w, r)
			return
		}
		if l := now.Load(); l != nil && (h.Honest == nil || !h.Honest(r)) {
			_, _ = io.Copy(io.Discard, r.Body) // only then a server sees that the client leaves
			(*l)(w, r)
			return
		}
		honest.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s, err := h.Open(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	made, err := key.New(key.AES256, time.Now(), "")
	if err != nil {
		t.Fatal(err)
	}
	value := made.Encode()
	if err := s.Create(t.Context(), "mine", value); err != nil {
		t.Fatal(err)
	}
	all := lies()
	for name, l := range all {
		now.Store(&l)
		suffer(t, s, name, string(value))
	}
	now.Store(nil)
	exchanging.Store(true)
	suffer(t, s, "wrong types", string(value))
	exchanging.Store(false)
	if got, err := s.Get(t.Context(), "mine"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("when the lies have ended: %d bytes, %v", len(got), err)
	}
	srv.CloseClientConnections()
	srv.Close()
	if _, err := s.Get(t.Context(), "mine"); !store.IsUnreachable(err) {
		t.Errorf("when nobody is there: %v", err)
	}
}

// suffer makes all calls while the service lies.
func suffer(t *testing.T, s store.Store, name, value string) {
	t.Helper()
	patience := 60 * time.Millisecond
	if name == "endless" {
		patience = 20 * time.Second // it must not need the time
	}
	for call, do := range map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			got, err := s.Get(ctx, "mine")
			if err == nil {
				if _, bad := key.Decode(got); bad == nil {
					t.Errorf("%s: a key is read", name)
				}
			}
			return err
		},
		"create": func(ctx context.Context) error { return s.Create(ctx, "other", []byte(value)) },
		"delete": func(ctx context.Context) error { return s.Delete(ctx, "other") },
		"list": func(ctx context.Context) error {
			_, _, err := s.List(ctx, "", "", 10)
			return err
		},
		"status": func(ctx context.Context) error {
			_, err := s.Status(ctx)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		start := time.Now()
		err := do(ctx)
		took := time.Since(start)
		cancel()
		if took > 10*time.Second {
			t.Errorf("%s: %s takes %v", name, call, took)
		}
		if err != nil && (strings.Contains(err.Error(), repeated) || strings.Contains(err.Error(), value)) {
			t.Errorf("%s: %s tells what it should not: %v", name, call, err)
		}
	}
}

// exchangeTypes makes numbers of the texts of an answer, and texts of its numbers.
func exchangeTypes(r *http.Response) error {
	raw, err := io.ReadAll(r.Body)
	var v any
	if err != nil || json.Unmarshal(raw, &v) != nil {
		return errors.Join(err, r.Body.Close())
	}
	raw, err = json.Marshal(exchanged(v))
	r.Body = io.NopCloser(bytes.NewReader(raw))
	r.ContentLength = int64(len(raw))
	r.Header.Set("Content-Length", strconv.Itoa(len(raw)))
	return err
}

func exchanged(v any) any {
	switch v := v.(type) {
	case string:
		return len(v)
	case map[string]any:
		for k := range v {
			v[k] = exchanged(v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = exchanged(v[i])
		}
		return v
	case nil:
		return []any{}
	}
	return "text"
}
