package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"

	"arca/internal/api"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

// Requests of engines that listen by themselves (KMIP) go to the active node as
// JSON, over the connections that those of the API take.
const (
	runnerPath     = "/runner"
	maxRunnerBytes = 96 << 20 // of a request; base64 is a third more than the message
)

// A runnerRequest is an engine.Request on its way to the active node.
type runnerRequest struct {
	ID        string           `json:"id"`
	Op        engine.Operation `json:"op"`
	Namespace string           `json:"namespace"`
	Path      string           `json:"path"`
	Runner    string           `json:"runner"`
	Params    param.Object     `json:"params"`
	Clear     []string         `json:"clear"`
	Raw       []byte           `json:"raw"`
	Remote    netip.AddrPort   `json:"remote"`
	Certs     [][]byte         `json:"certs"`
}

// A runnerAnswer is the answer, or the error.
type runnerAnswer struct {
	Body   []byte          `json:"body,omitempty"`
	Record json.RawMessage `json:"record,omitempty"`
	Failed bool            `json:"failed,omitempty"`
	Kind   errs.Kind       `json:"kind,omitempty"`
	Text   string          `json:"text,omitempty"`
}

// runnerForwarder is core.Config.ForwardRunner; nil for a node that shares nothing.
func (n *node) runnerForwarder() func(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if n.cluster == nil {
		return nil
	}
	f := newForwarder(n.cluster)
	return func(ctx context.Context, req *engine.Request) (*engine.Response, error) {
		return f.forwardRunner(ctx, req)
	}
}

func (f *forwarder) forwardRunner(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	to, ok := f.node.LeaderAddress()
	if !ok {
		return nil, f.node.NoLeader()
	}
	req.Describe()
	in := runnerRequest{
		ID: req.ID, Op: req.Op, Namespace: req.Namespace, Path: req.Path, Runner: req.Runner, Params: req.Params, Clear: req.ClearParams,
		Raw: req.Raw, Remote: req.Remote,
	}
	if req.TLS != nil {
		for _, c := range req.TLS.PeerCertificates {
			in.Certs = append(in.Certs, c.Raw)
		}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	res, err := f.send(ctx, &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: to, Path: runnerPath}, Host: to, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get(api.NotActiveHeader) != "" {
		return nil, errs.New(errs.NotActive, "the node that was the active one is that no longer")
	}
	var a runnerAnswer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return nil, errs.New(errs.Unavailable, "the answer of the active node cannot be read: %w", err)
	}
	if a.Failed {
		return nil, errs.New(a.Kind, "%s", a.Text)
	}
	return &engine.Response{Raw: &engine.Raw{Body: a.Body, Record: a.Record}}, nil
}

// serveRunner serves such a request of another node.
func (n *node) serveRunner(w http.ResponseWriter, r *http.Request) {
	var in runnerRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRunnerBytes)).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	state := &tls.ConnectionState{HandshakeComplete: true}
	for _, der := range in.Certs {
		if c, err := x509.ParseCertificate(der); err == nil {
			state.PeerCertificates = append(state.PeerCertificates, c)
		}
	}
	res, err := n.core.HandleForwarded(r.Context(), &engine.Request{
		ID: in.ID, Op: in.Op, Namespace: in.Namespace, Path: in.Path, Runner: in.Runner, Params: in.Params, ClearParams: in.Clear,
		Raw: in.Raw, Remote: in.Remote, TLS: state,
	})
	var a runnerAnswer
	switch {
	case errs.Is(err, errs.NotActive):
		w.Header().Set(api.NotActiveHeader, "true")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case err != nil:
		a.Failed, a.Kind, a.Text = true, errs.KindOf(err), "the active node could not serve the request"
		if e := (*errs.Error)(nil); errors.As(err, &e) {
			a.Text = e.Error()
		}
	case res != nil && res.Raw != nil:
		res.Raw.Describe()
		a.Body, a.Record = res.Raw.Body, res.Raw.Record
	}
	body, err := json.Marshal(a)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the other node may be gone
}
