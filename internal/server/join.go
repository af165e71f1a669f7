package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/cluster"
	"arca/internal/core"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/server/discovery"
)

const (
	joinTimeout  = 30 * time.Second
	firstPause   = 250 * time.Millisecond // until a cluster is asked again; doubled up to joinPause
	joinPause    = 2 * time.Second
	joinIdle     = 10 * time.Second // of a connection
	maxJoinBytes = 4 << 20
	maxJoinText  = 1 << 10 // of what a cluster gives as its reason
)

// A host is a node of a cluster that this one wants to join.
type host struct {
	url    string
	client *http.Client
}

// newHost makes what asks a node at its API.
func newHost(req *core.JoinRequest) (*host, error) {
	u, err := url.Parse(req.Address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errs.New(errs.Invalid, "leader_api_addr %q must be a URL, as in https://10.0.0.1:8200", req.Address)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: req.ServerName}
	if req.CACert != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(req.CACert)) {
			return nil, errs.New(errs.Invalid, "leader_ca_cert holds no certificate")
		}
	}
	if req.ClientCert != "" || req.ClientKey != "" {
		pair, err := tls.X509KeyPair([]byte(req.ClientCert), []byte(req.ClientKey))
		if err != nil {
			return nil, errs.New(errs.Invalid, "leader_client_cert and leader_client_key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return &host{
		url: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"),
		client: &http.Client{Timeout: joinTimeout, Transport: &http.Transport{
			TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, IdleConnTimeout: joinIdle,
		}},
	}, nil
}

// close ends the connections. The host can be asked again.
func (h *host) close() { h.client.CloseIdleConnections() }

// ask posts to an endpoint of sys/storage/raft/bootstrap and reads "data" of the answer.
func (h *host) ask(ctx context.Context, what string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, h.url+"/v1/sys/storage/raft/bootstrap/"+what, bytes.NewReader(body))
	if err != nil {
		return errs.New(errs.Invalid, "leader_api_addr: %w", err)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "reach the cluster: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxJoinBytes))
	if err != nil {
		return errs.New(errs.Unavailable, "reach the cluster: %w", err)
	}
	var answer struct {
		Data   json.RawMessage `json:"data"`
		Errors []string        `json:"errors"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || res.StatusCode != http.StatusOK || answer.Data == nil {
		why := strings.Join(answer.Errors, "; ")
		if why == "" { // the body is not shown: a stranger may have named the address
			why = "it does not answer as a node of a cluster does; look at the address, and whether it begins with https or http"
		}
		return errs.New(errs.Failed, "%s answers %d to the wish to join: %s", h.url, res.StatusCode, strings.ToValidUTF8(why[:min(len(why), maxJoinText)], ""))
	}
	return json.Unmarshal(answer.Data, out)
}

type challenge struct {
	Challenge  string          `json:"challenge"`
	SealConfig json.RawMessage `json:"seal_config"`
}

// join makes this empty node one that is unsealed with the keys of a cluster, and is its member then.
func (n *node) join(ctx context.Context, req core.JoinRequest) (bool, error) {
	err := n.joinOnce(ctx, &req)
	if err == nil || !req.Retry || errs.Is(err, errs.Invalid) {
		return err == nil, err
	}
	n.log.Named("cluster").Warn("join a cluster; it is tried again", "address", target(&req), "error", err)
	ctx, ok := n.wish.replace(n.ctx)
	if !ok {
		return false, errs.New(errs.Unavailable, "this node is shutting down")
	}
	n.tries.Go(func() { n.joinAgain(ctx, []core.JoinRequest{req}) })
	return false, nil
}

// A wish is the last request to try on until a cluster answers. There is one at a time: nobody has to show a token to make one.
type wish struct {
	mu     sync.Mutex
	cancel context.CancelFunc // nil before the first
}

// replace ends the wish before, and returns the context of a new one; false when the node has ended.
func (w *wish) replace(parent context.Context) (context.Context, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel()
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(parent)
	return ctx, ctx.Err() == nil
}

// joinAgain tries one cluster node after the other until one answers, this node has a cluster of its own, or ctx ends.
func (n *node) joinAgain(ctx context.Context, reqs []core.JoinRequest) {
	log := n.log.Named("cluster")
	said := map[string]string{}
	t := time.NewTimer(0)
	defer t.Stop()
	for pause := firstPause; ; pause = min(2*pause, joinPause) {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if ok, err := n.core.SealManager().Initialised(ctx); err != nil || ok {
			return
		}
		for i := range reqs {
			err := n.joinOnce(ctx, &reqs[i])
			if err != nil && ctx.Err() != nil {
				return
			}
			to := target(&reqs[i])
			if err == nil {
				log.Info("a cluster was found: this node joins it when it is unsealed", "address", to)
				return
			}
			if said[to] != err.Error() {
				said[to] = err.Error()
				log.Warn("join a cluster", "address", to, "error", err)
			}
		}
		t.Reset(pause)
	}
}

// target names whom a request asks.
func target(req *core.JoinRequest) string {
	if req.AutoJoin != "" {
		return req.AutoJoin
	}
	return req.Address
}

// joinOnce asks the node of a request, or those that its rule finds, one after the other.
func (n *node) joinOnce(ctx context.Context, req *core.JoinRequest) error {
	if req.AutoJoin == "" {
		return n.joinAt(ctx, req)
	}
	from := discovery.FromRequest
	if req.Configured {
		from = discovery.FromConfig
	}
	rule, err := discovery.New(req.AutoJoin, from, n.env.Getenv)
	if err != nil {
		return errs.New(errs.Invalid, "auto_join: %w", err)
	}
	search, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	found, err := rule.Find(search)
	if err != nil {
		return errs.New(errs.Unavailable, "auto_join: %w", err)
	}
	for _, address := range found {
		at := *req
		at.Address = discovery.Complete(address, req.Scheme, req.Port)
		one := n.joinAt(ctx, &at)
		if one == nil {
			return nil
		}
		if err = errors.Join(err, one); ctx.Err() != nil {
			break
		}
	}
	return errs.New(errs.Unavailable, "none of the %d nodes that were found lets this one in: %w", len(found), err)
}

func (n *node) joinAt(ctx context.Context, req *core.JoinRequest) error {
	h, err := newHost(req)
	if err != nil {
		return err
	}
	if strings.TrimSuffix(n.apiAddr(), "/") == h.url {
		return errs.New(errs.Conflict, "a node cannot join itself")
	}
	defer h.close()
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	nonVoter := req.NonVoter
	return n.core.SealManager().Join(ctx, seal.Inviter{
		Look: func(ctx context.Context) ([]byte, error) {
			defer h.close()
			c, err := n.challenge(ctx, h)
			return c.SealConfig, err
		},
		Join: func(ctx context.Context, a seal.Applicant) ([]byte, error) {
			defer h.close()
			n.cluster.WantNoVote(nonVoter) // not before: anybody may have an empty node ask a cluster
			return n.answer(ctx, h, a, nonVoter)
		},
	})
}

func (n *node) challenge(ctx context.Context, h *host) (c challenge, err error) {
	err = h.ask(ctx, "challenge", map[string]string{"server_id": n.nodeID}, &c)
	return c, err
}

// answer proves that this node has the keys of the cluster, and is let in.
func (n *node) answer(ctx context.Context, h *host, a seal.Applicant, nonVoter bool) ([]byte, error) {
	c, err := n.challenge(ctx, h) // a fresh one: the shares may have taken their time
	if err != nil {
		return nil, err
	}
	nonce, err := base64.StdEncoding.DecodeString(c.Challenge)
	if err != nil {
		return nil, errs.New(errs.Failed, "the cluster's challenge: %w", err)
	}
	proof, err := a.Prove(nonce, cluster.Introduction(n.nodeID, n.clusterAddr(), nonVoter))
	if err != nil {
		return nil, err
	}
	var out struct {
		Reply string `json:"reply"`
	}
	if err := h.ask(ctx, "answer", map[string]any{
		"challenge": c.Challenge, "answer": base64.StdEncoding.EncodeToString(proof),
		"server_id": n.nodeID, "cluster_addr": n.clusterAddr(), "non_voter": nonVoter,
	}, &out); err != nil {
		return nil, err
	}
	sealed, err := base64.StdEncoding.DecodeString(out.Reply)
	if err != nil {
		return nil, errs.New(errs.Failed, "the cluster's reply: %w", err)
	}
	record, err := a.Read(nonce, sealed)
	if err != nil {
		return nil, errs.New(errs.Denied, "the reply does not come from a node with the same keys: %w", err)
	}
	return record, nil
}

// retryJoin reads the retry_join blocks, and tries them in the background while this node is empty.
func (n *node) retryJoin() error {
	if n.cluster == nil || n.cluster.Store() == nil || len(n.cfg.Storage.RetryJoin) == 0 {
		return nil
	}
	var reqs []core.JoinRequest
	for _, block := range n.cfg.Storage.RetryJoin {
		req, err := retryRequest(block, n.env.Getenv)
		if err != nil {
			return errs.New(errs.Invalid, "%s: retry_join: %w", n.cfg.Storage.Pos, err)
		}
		if strings.TrimSuffix(n.apiAddr(), "/") != strings.TrimSuffix(req.Address, "/") { // a list that is the same on all nodes
			reqs = append(reqs, req)
		}
	}
	noVote, _ := strconv.ParseBool(n.cfg.Storage.Options["retry_join_as_non_voter"]) // was checked
	for i := range reqs {
		reqs[i].NonVoter = noVote
	}
	if len(reqs) > 0 {
		n.tries.Go(func() { n.joinAgain(n.ctx, reqs) })
	}
	return nil
}

// autoJoin reads how a block finds nodes.
func autoJoin(block map[string]string, req *core.JoinRequest, getenv func(string) string) error {
	req.AutoJoin, req.Scheme = block["auto_join"], block["auto_join_scheme"]
	switch {
	case req.AutoJoin == "" && req.Address == "":
		return errs.New(errs.Invalid, "leader_api_addr is missing, or auto_join")
	case req.AutoJoin != "" && req.Address != "":
		return errs.New(errs.Invalid, "auto_join and leader_api_addr are in one block: make two of it")
	case req.AutoJoin == "":
		return nil
	case req.Scheme != "" && req.Scheme != "http" && req.Scheme != "https":
		return errs.New(errs.Invalid, "auto_join_scheme must be http or https, not %q", req.Scheme)
	}
	if text := block["auto_join_port"]; text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return errs.New(errs.Invalid, "auto_join_port must be the number of a port, not %q", text)
		}
		req.Port = uint(port)
	}
	if _, err := discovery.New(req.AutoJoin, discovery.FromConfig, getenv); err != nil {
		return errs.New(errs.Invalid, "auto_join: %w", err)
	}
	return nil
}

func retryRequest(block map[string]string, getenv func(string) string) (core.JoinRequest, error) {
	req := core.JoinRequest{
		Address: block["leader_api_addr"], CACert: block["leader_ca_cert"], ClientCert: block["leader_client_cert"],
		ClientKey: block["leader_client_key"], ServerName: block["leader_tls_servername"], Configured: true,
	}
	if err := autoJoin(block, &req, getenv); err != nil {
		return req, err
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"leader_ca_cert_file", &req.CACert}, {"leader_client_cert_file", &req.ClientCert}, {"leader_client_key_file", &req.ClientKey}} {
		if block[f.name] == "" {
			continue
		}
		text, err := os.ReadFile(block[f.name])
		if err != nil {
			return req, errs.New(errs.Invalid, "%s: %w", f.name, err)
		}
		*f.to = string(text)
	}
	probe := req // the certificates, and an address that is given
	if probe.Address == "" {
		probe.Address = discovery.Complete("localhost", req.Scheme, req.Port)
	}
	_, err := newHost(&probe)
	return req, err
}
