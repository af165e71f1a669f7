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

// A review is what a cluster has said: of which account, by which cluster.
type review struct {
	host, ca string
	account  account
}

type clusterKey struct {
	host string
	ca   [sha256.Size]byte
}

// A cluster is a client of one cluster's API.
type cluster struct {
	client *http.Client
	slots  chan struct{}
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
	c := &cluster{slots: make(chan struct{}, maxReviews), client: &http.Client{
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

// review asks the cluster whether token is good and belongs to a. Whatever goes
// wrong is a refusal.
func (k *clusters) review(ctx context.Context, c *config, token string, audiences []string, a *account) (any, error) {
	ca, bearer := c.CA, c.Reviewer
	if !c.NoLocal {
		ca, bearer = local(ca, localCA), local(bearer, localJWT)
	}
	if bearer == "" {
		bearer = token
	}
	to, err := k.get(c.Host, ca)
	if err != nil {
		return nil, err
	}
	select {
	case to.slots <- struct{}{}:
		defer func() { <-to.slots }()
	default:
		return nil, errs.New(errs.Unavailable, "too many logins wait for the cluster")
	}
	said, err := to.ask(ctx, c.Host, bearer, token, audiences)
	if err != nil {
		return nil, err
	}
	user := "system:serviceaccount:" + a.namespace + ":" + a.name
	switch {
	case !said.Status.Authenticated, said.Status.Error != "", said.Status.User.Username != user, said.Status.User.UID != a.uid,
		!common(audiences, said.Status.Audiences):
		return nil, errDenied
	}
	return review{c.Host, c.CA, *a}, nil
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, host+"/apis/authentication.k8s.io/v1/tokenreviews", bytes.NewReader(body))
	if err != nil {
		return nil, errDenied
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(bearer))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, errDenied // the text could hold what was sent
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReviewBytes+1))
	if err != nil || len(raw) > maxReviewBytes || res.StatusCode/100 != 2 {
		return nil, errDenied
	}
	out := &tokenReview{}
	if json.Unmarshal(raw, out) != nil {
		return nil, errDenied
	}
	return out, nil
}
