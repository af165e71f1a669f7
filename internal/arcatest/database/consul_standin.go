package database

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A ConsulStandIn speaks as much of Consul's API as storage needs, as Consul 1.10 does; it is not Consul. Tests run
// against Consul, too, where it is found (FindConsul).
type ConsulStandIn struct {
	URL    string
	Gate   sync.RWMutex // held while it stands still
	Broken atomic.Bool
	Lose   atomic.Pointer[func(r *http.Request) bool] // the answer, after it was done
	Before atomic.Pointer[func(r *http.Request) int]  // what is answered instead; 0 for nothing

	mu       sync.Mutex
	keys     map[string]*pair
	sessions map[string]*session
	delayed  map[string]time.Time // keys that went with a session, until when nobody can have them
	told     []string
}

type pair struct {
	value   []byte
	session string
}

type session struct {
	ttl, delay time.Duration
	end        time.Time
}

// NewConsulStandIn starts one; it ends with the test.
func NewConsulStandIn(tb testing.TB) *ConsulStandIn {
	tb.Helper()
	s := &ConsulStandIn{keys: map[string]*pair{}, sessions: map[string]*session{}, delayed: map[string]time.Time{}}
	srv := httptest.NewServer(s)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	tb.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Keys are all that are there, in order.
func (s *ConsulStandIn) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.keys))
}

// Deregister removes the node of all sessions, as when its agent leaves: they end at once.
func (s *ConsulStandIn) Deregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.sessions {
		s.endSession(id)
	}
}

// ServeHTTP implements http.Handler.
func (s *ConsulStandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Gate.RLock()
	defer s.Gate.RUnlock()
	if s.Broken.Load() {
		panic(http.ErrAbortHandler)
	}
	if before := s.Before.Load(); before != nil {
		if status := (*before)(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	status, answer := s.serve(r, body)
	s.mu.Unlock()
	if lose := s.Lose.Load(); lose != nil && (*lose)(r) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (s *ConsulStandIn) serve(r *http.Request, body []byte) (int, []byte) {
	for id, one := range s.sessions {
		if time.Now().After(one.end) {
			s.endSession(id)
		}
	}
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/kv/"):
		return s.kv(r, strings.TrimPrefix(path, "/v1/kv/"), body)
	case path == "/v1/session/create":
		var q struct{ TTL, LockDelay, Behavior string }
		if json.Unmarshal(body, &q) != nil || q.Behavior != "delete" {
			return http.StatusBadRequest, nil
		}
		delay, err := time.ParseDuration(q.LockDelay)
		if err != nil || delay > time.Minute { // Consul takes a minute for more
			return http.StatusBadRequest, nil
		}
		ttl, err := time.ParseDuration(q.TTL)
		if err != nil || ttl < 10*time.Second {
			return http.StatusInternalServerError, []byte("Invalid Session TTL")
		}
		id := rand.Text()
		s.sessions[id] = &session{ttl, delay, time.Now().Add(ttl)}
		return http.StatusOK, []byte(`{"ID":"` + id + `"}`)
	case strings.HasPrefix(path, "/v1/session/renew/"):
		id := strings.TrimPrefix(path, "/v1/session/renew/")
		one := s.sessions[id]
		if one == nil {
			return http.StatusNotFound, []byte("Session id not found")
		}
		one.end = time.Now().Add(one.ttl)
		return http.StatusOK, []byte("[]")
	case strings.HasPrefix(path, "/v1/session/destroy/"):
		s.endSession(strings.TrimPrefix(path, "/v1/session/destroy/"))
		return http.StatusOK, []byte("true")
	}
	if strings.HasPrefix(r.URL.Path, "/v1/agent/") {
		s.told = append(s.told, r.URL.Path)
		return http.StatusOK, nil
	}
	return http.StatusNotFound, nil
}

// Told are the paths of what the agent was told.
func (s *ConsulStandIn) Told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

func (s *ConsulStandIn) endSession(id string) {
	one := s.sessions[id]
	if one == nil {
		return
	}
	delete(s.sessions, id)
	for key, p := range s.keys {
		if p.session == id {
			delete(s.keys, key)
			s.delayed[key] = time.Now().Add(one.delay)
		}
	}
}

func (s *ConsulStandIn) kv(r *http.Request, key string, body []byte) (int, []byte) {
	q := r.URL.Query()
	switch r.Method {
	case http.MethodPut:
		if len(body) > 512<<10 {
			return http.StatusRequestEntityTooLarge, []byte("Request body too large")
		}
		old := s.keys[key]
		if id := q.Get("acquire"); id != "" {
			if s.sessions[id] == nil {
				return http.StatusInternalServerError, []byte("invalid session")
			}
			if time.Now().Before(s.delayed[key]) || old != nil && old.session != "" && old.session != id {
				return http.StatusOK, []byte("false")
			}
			s.keys[key] = &pair{body, id}
			return http.StatusOK, []byte("true")
		}
		if id := q.Get("release"); id != "" {
			if old == nil || old.session != id {
				return http.StatusOK, []byte("false")
			}
			s.keys[key] = &pair{value: body}
			return http.StatusOK, []byte("true")
		}
		if q.Get("cas") == "0" && old != nil {
			return http.StatusOK, []byte("false")
		}
		s.keys[key] = &pair{value: body}
		return http.StatusOK, []byte("true")
	case http.MethodDelete:
		if q.Has("recurse") {
			maps.DeleteFunc(s.keys, func(k string, _ *pair) bool { return strings.HasPrefix(k, key) })
		}
		delete(s.keys, key)
		return http.StatusOK, []byte("true")
	}
	if q.Has("keys") {
		var list []string
		for k := range s.keys {
			rest, ok := strings.CutPrefix(k, key)
			if i := strings.Index(rest, "/"); ok && q.Get("separator") == "/" && i >= 0 {
				k = key + rest[:i+1]
			}
			if ok && !slices.Contains(list, k) {
				list = append(list, k)
			}
		}
		slices.Sort(list)
		if len(list) == 0 {
			return http.StatusNotFound, []byte("")
		}
		raw, _ := json.Marshal(list)
		return http.StatusOK, raw
	}
	p := s.keys[key]
	switch {
	case p == nil:
		return http.StatusNotFound, nil
	case q.Has("raw"):
		return http.StatusOK, p.value
	}
	raw, _ := json.Marshal([]map[string]string{{"Value": base64.StdEncoding.EncodeToString(p.value), "Session": p.session}})
	return http.StatusOK, raw
}
