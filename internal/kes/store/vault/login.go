package vault

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"arca/internal/kes/store/rest"
)

// A token is what a login gave. It prints nothing of itself.
type token struct {
	text      string
	lifetime  time.Duration // 0: for ever
	renewable bool
	got       time.Time
}

// LogValue hides the token from logs.
func (*token) LogValue() slog.Value { return slog.StringValue("token") }

// Times of a token's life.
const (
	retryEvery  = 3 * time.Second  // after a failed renewal or login
	longestWait = 30 * time.Second // before a new token is used
	// between logins that are owed to a refusal: a policy that lacks a right
	// looks like a token that is none
	loginEvery = 5 * time.Second
)

// namespaceHeader carries the namespace of a call that is not in the general
// one; "" as its value takes it away.
const namespaceHeader = "X-Vault-Namespace"

// prepare sets token and namespace, where the call has not set its own.
func (s *Store) prepare(r *http.Request, _ []byte) error {
	r.Header.Set("X-Vault-Request", "true")
	if _, own := r.Header[namespaceHeader]; !own {
		r.Header[namespaceHeader] = []string{namespace(s.cfg.Namespace)}
	}
	if r.Header.Get(namespaceHeader) == "" {
		delete(r.Header, namespaceHeader)
	}
	if t := s.token.Load(); t != nil && r.Header.Get("X-Vault-Token") == "" && r.Header.Get(anonymous) == "" {
		r.Header.Set("X-Vault-Token", t.text)
	}
	r.Header.Del(anonymous)
	return nil
}

// anonymous marks a call that goes without a token; it is not sent.
const anonymous = "X-Arca-Without"

// namespace returns a namespace as the header has it: "/" is none.
func namespace(name string) string { return strings.Trim(name, "/") }

type authOut struct {
	Auth *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"`
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
}

// logIn gets a new token.
func (s *Store) logIn(ctx context.Context) (*token, error) {
	in := map[string]string{}
	var path string
	if a := s.cfg.AppRole; a != nil {
		path = a.Engine
		in["role_id"], in["secret_id"] = a.ID, a.Secret
	} else {
		k := s.cfg.Kubernetes
		path = k.Engine
		jwt := k.JWT
		if strings.Contains(jwt, "/") { // the file is exchanged from time to time
			text, err := os.ReadFile(jwt) //nolint:gosec // the operator names it
			if err != nil {
				return nil, err
			}
			jwt = strings.TrimSpace(string(text))
		}
		in["role"], in["jwt"] = k.Role, jwt
	}
	var segments []string
	for _, p := range strings.Split(path, "/") {
		segments = append(segments, url.PathEscape(p))
	}
	once := *s.client
	once.Again = nil
	var out authOut
	err := once.Do(ctx, rest.Request{
		Method: http.MethodPut, Path: "/v1/auth/" + strings.Join(segments, "/") + "/login", In: in, Out: &out,
		Header: http.Header{namespaceHeader: {s.loginNamespace()}, anonymous: {"1"}},
	})
	if err != nil {
		return nil, err
	}
	return out.token()
}

// loginNamespace is where tokens are made: the method's own namespace, or the
// general one.
func (s *Store) loginNamespace() string {
	var own string
	if s.cfg.AppRole != nil {
		own = s.cfg.AppRole.Namespace
	} else {
		own = s.cfg.Kubernetes.Namespace
	}
	if own == "" {
		own = s.cfg.Namespace
	}
	return namespace(own)
}

func (o authOut) token() (*token, error) {
	if o.Auth == nil || o.Auth.ClientToken == "" {
		return nil, errors.New("it answered no token")
	}
	seconds := max(0, min(o.Auth.LeaseDuration, 10*365*24*3600))
	return &token{o.Auth.ClientToken, time.Duration(seconds) * time.Second, o.Auth.Renewable, time.Now()}, nil
}

// renew prolongs the token in the namespace that it was made in.
func (s *Store) renew(ctx context.Context, t *token) (*token, error) {
	once := *s.client
	once.Again = nil
	var out authOut
	err := once.Do(ctx, rest.Request{
		Method: http.MethodPut, Path: "/v1/auth/token/renew-self", In: struct{}{}, Out: &out,
		Header: http.Header{namespaceHeader: {s.loginNamespace()}, "X-Vault-Token": {t.text}},
	})
	if err != nil {
		return nil, err
	}
	if out.Auth != nil && out.Auth.ClientToken == "" {
		out.Auth.ClientToken = t.text
	}
	return out.token()
}

// again decides whether a refused call is worth another try: it is when the
// token is no longer one, and then there is a new one.
func (s *Store) again(ctx context.Context, status int) bool {
	if status != http.StatusForbidden {
		return false
	}
	old := s.token.Load()
	s.login.Lock()
	defer s.login.Unlock()
	if s.token.Load() != old {
		return true // another call has logged in
	}
	if time.Since(old.got) < loginEvery || s.alive(ctx, old) {
		return false
	}
	t, err := s.logIn(ctx)
	if err != nil {
		s.cfg.Log.Error("log in to Vault again", "error", err)
		return false
	}
	s.token.Store(t)
	s.cfg.Log.Info("the token for Vault was no longer one: logged in again")
	return true
}

// alive asks whether the token is one; not knowing counts as yes.
func (s *Store) alive(ctx context.Context, t *token) bool {
	once := *s.client
	once.Again = nil
	err := once.Do(ctx, rest.Request{
		Method: http.MethodGet, Path: "/v1/auth/token/lookup-self", Header: http.Header{namespaceHeader: {s.loginNamespace()}, "X-Vault-Token": {t.text}},
	})
	return !rest.Is(err, http.StatusForbidden)
}

// keepToken renews the token after 80 % of its lifetime, or gets a new one.
func (s *Store) keepToken(ctx context.Context) {
	for ctx.Err() == nil {
		t := s.token.Load()
		if t.lifetime <= 0 {
			// It lives until it is revoked; again() replaces it then.
			if !sleep(ctx, time.Minute) {
				return
			}
			continue
		}
		due := t.got.Add(t.lifetime * 8 / 10)
		if !sleep(ctx, min(time.Until(due), time.Minute)) {
			return
		}
		if s.token.Load() != t || time.Now().Before(due) {
			continue
		}
		if !s.prolong(ctx, t) && !sleep(ctx, retryEvery) {
			return
		}
	}
}

// prolong replaces the token by a renewed or a new one, and reports success.
func (s *Store) prolong(ctx context.Context, t *token) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*longestWait)
	defer cancel()
	if t.renewable {
		renewed, err := s.renew(ctx, t)
		if err == nil && (renewed.lifetime <= 0 || renewed.lifetime > t.lifetime/10) {
			s.token.CompareAndSwap(t, renewed)
			return true
		}
		if err != nil && !rest.Is(err, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound) {
			s.cfg.Log.Warn("renew the token for Vault", "error", err)
			return false
		}
	}
	s.login.Lock()
	if s.token.Load() != t {
		s.login.Unlock()
		return true
	}
	fresh, err := s.logIn(ctx)
	s.login.Unlock()
	if err != nil {
		s.cfg.Log.Error("log in to Vault", "error", err)
		return false
	}
	// A new token may not have reached all nodes of a cluster: the old one is
	// used a little longer, but not past its end.
	left := time.Until(t.got.Add(t.lifetime))
	sleep(ctx, min(left/2, longestWait))
	s.token.CompareAndSwap(t, fresh)
	return true
}

// sleep waits and reports whether to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
