package kubernetes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/errs"
)

// Bounds on what a cluster may cost.
const (
	reviewTimeout  = 10 * time.Second
	maxReviewBytes = 1 << 20
	maxReviews     = 64 // at a time, of one cluster
	maxClusters    = 100
)

// Files of the pod in which this server may run.
const (
	localCA  = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
	localJWT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

// A review is what a cluster has said: of which account, by which cluster, and
// how; audience is the one that the role demands, and selector the one by which the
// account's namespace was chosen, if any.
type review struct {
	host, ca  string
	published bool
	audience  string
	selector  string
	account   account
}

func reviewOf(c *config, q *question) review {
	return review{c.Host, c.CA, c.Published, q.audience, q.selector, q.account}
}

type clusterKey struct {
	host string
	ca   [sha256.Size]byte
}

// A cluster is a client of one cluster's API.
type cluster struct {
	client    *http.Client
	slots     chan struct{}
	published *published
}

// enter takes one of the slots, which leave gives back.
func (c *cluster) enter() (leave func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	default:
		return nil, errs.New(errs.Unavailable, "too many logins wait for the cluster")
	}
}

// clusters are the clients, made when needed.
type clusters struct {
	mu    sync.Mutex
	known map[clusterKey]*cluster // guarded by mu
}

func (k *clusters) get(host, ca string) (*cluster, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := clusterKey{host, sha256.Sum256([]byte(ca))}
	if c := k.known[key]; c != nil {
		return c, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errDenied
	}
	if len(k.known) >= maxClusters {
		for old, c := range k.known {
			c.client.CloseIdleConnections()
			delete(k.known, old)
		}
	}
	c := &cluster{slots: make(chan struct{}, maxReviews), published: newPublished(), client: &http.Client{
		Timeout:       reviewTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
	}}
	k.known[key] = c
	return c, nil
}

// The parts of a TokenReview that matter
// (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1).
type tokenReview struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   struct{} `json:"metadata"`
	Spec       struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences,omitempty"`
	} `json:"spec"`
	Status struct {
		Authenticated bool     `json:"authenticated"`
		Error         string   `json:"error"`
		Audiences     []string `json:"audiences"`
		User          struct {
			Username string   `json:"username"`
			UID      string   `json:"uid"`
			Groups   []string `json:"groups"`
		} `json:"user"`
	} `json:"status"`
}

// access is what the configuration has for reaching the cluster, or else the pod
// in which this server runs: the authority, and a token that may be "".
func (c *config) access() (ca, bearer string) {
	if c.NoLocal {
		return c.CA, c.Reviewer
	}
	return local(c.CA, localCA), local(c.Reviewer, localJWT)
}

// A question is what is asked of a cluster: whether a token is good and belongs to
// an account, and whether a selector chooses the account's namespace.
type question struct {
	token     string
	payload   []byte // the token's claims
	audiences []string
	audience  string // of the role, "" when it demands none
	account   account
	selector  string // "" when the account's namespace is named
}

// judge asks. Whatever goes wrong is a refusal.
func (k *clusters) judge(ctx context.Context, c *config, q *question) (any, error) {
	var err error
	if c.Published {
		err = k.verify(ctx, c, q.token, q.payload)
	} else {
		err = k.review(ctx, c, q)
	}
	if err != nil {
		return nil, err
	}
	if q.selector != "" {
		s, err := parseSelector(q.selector)
		if err != nil {
			return nil, err
		}
		labels, err := k.labels(ctx, c, q.token, q.account.namespace)
		if err != nil {
			return nil, err
		}
		if !s.fits(labels) {
			return nil, errNamespace
		}
	}
	return reviewOf(c, q), nil
}

// review asks the cluster whether the token is good and belongs to the account.
func (k *clusters) review(ctx context.Context, c *config, q *question) error {
	ca, bearer := c.access()
	if bearer == "" {
		bearer = q.token
	}
	to, err := k.get(c.Host, ca)
	if err != nil {
		return err
	}
	leave, err := to.enter()
	if err != nil {
		return err
	}
	defer leave()
	said, err := to.ask(ctx, c.Host, bearer, q.token, q.audiences)
	if err != nil {
		return err
	}
	return said.vouches(q)
}

// vouches refuses what is no word for the account and one of the audiences.
func (said *tokenReview) vouches(q *question) error {
	switch {
	case !said.Status.Authenticated, said.Status.Error != "", said.Status.User.Username != q.account.user(), said.Status.User.UID != q.account.uid,
		!common(q.audiences, said.Status.Audiences):
		return errDenied
	}
	return nil
}

// common reports whether the cluster, where it names audiences, names one of
// those asked for.
func common(asked, said []string) bool {
	if len(asked) == 0 || len(said) == 0 {
		return true
	}
	return slices.ContainsFunc(said, func(s string) bool { return slices.Contains(asked, s) })
}

// local is a file of the pod where nothing is configured.
func local(configured, file string) string {
	if configured != "" {
		return configured
	}
	raw, err := os.ReadFile(file) //nolint:gosec // a fixed path
	if err != nil {
		return "" // this is no pod
	}
	return strings.TrimSpace(string(raw))
}

func (c *cluster) ask(ctx context.Context, host, bearer, token string, audiences []string) (*tokenReview, error) {
	in := tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
	in.Spec.Token = token
	in.Spec.Audiences = audiences
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	raw, err := c.send(ctx, http.MethodPost, host+"/apis/authentication.k8s.io/v1/tokenreviews", bearer, body)
	if err != nil {
		return nil, err
	}
	return parseReview(raw)
}

// parseReview reads the cluster's answer.
func parseReview(raw []byte) (*tokenReview, error) {
	out := &tokenReview{}
	if json.Unmarshal(raw, out) != nil {
		return nil, errDenied
	}
	return out, nil
}

// send makes one request; a bearer of "" is none. Whatever is no success is
// errDenied: other words could hold what was sent.
func (c *cluster) send(ctx context.Context, method, url, bearer string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, errDenied
	}
	if bearer = strings.TrimSpace(bearer); bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, errDenied
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReviewBytes+1))
	if err != nil || len(raw) > maxReviewBytes || res.StatusCode/100 != 2 {
		return nil, errDenied
	}
	return raw, nil
}
