package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// client returns the API client that flags and environment describe, with the
// stored token. It is made once per call.
func (c *call) client() (*api.Client, error) {
	if c.cached != nil {
		return c.cached, nil
	}
	client, err := c.newClient()
	if err != nil {
		return nil, &exitError{exitFailure, err}
	}
	token := c.env.get("VAULT_TOKEN")
	if token == "" {
		helper, err := c.tokenHelper()
		if err != nil {
			return nil, failf("failed to get token helper: %w", err)
		}
		if token, err = helper.get(); err != nil {
			return nil, failf("failed to get token from token helper: %w", err)
		}
	}
	client.SetToken(token)
	if c.globals.explain {
		client = client.WithRequestCallbacks(c.noteRequest)
	}
	c.cached = client
	return client, nil
}

// newClient configures a client without a token.
func (c *call) newClient() (*api.Client, error) {
	g := c.globals
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, fmt.Errorf("failed to read environment: %w", cfg.Error)
	}
	if err := c.configure(cfg); err != nil {
		return nil, err
	}
	client, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("failed to create client: %w", err)
	}
	if c.env.get("VAULT_MAX_RETRIES") == "" {
		client.SetMaxRetries(0) // a person or script at the other end decides for itself
	}
	client.SetWrappingLookupFunc(func(operation, path string) string {
		if g.wrapTTL != 0 {
			return g.wrapTTL.String()
		}
		return defaultWrapTTL(operation, path)
	})
	if len(g.mfa) > 0 {
		client.SetMFACreds(g.mfa)
	}
	client.ClearNamespace()
	if ns := canonicalNamespace(g.namespace); ns != "" {
		client.SetNamespace(ns)
	}
	for k, v := range g.headers {
		if strings.HasPrefix(http.CanonicalHeaderKey(k), "X-Vault-") {
			return nil, fmt.Errorf("header %q is the client's own: names that begin with X-Vault- cannot be set", k)
		}
		client.AddHeader(k, v)
	}
	if err := addEnvHeaders(client, c.env["ARCA_HEADERS"]); err != nil {
		return nil, err
	}
	if g.policyOverride {
		client.SetPolicyOverride(true)
	}
	client.SetOutputCurlString(g.outputCurl)
	client.SetOutputPolicy(g.outputHCL)
	return client, nil
}

// configure applies our flags and environment to the client's configuration,
// which has read the process's own variables already.
func (c *call) configure(cfg *api.Config) error {
	g := c.globals
	if g.address != "" {
		cfg.Address = g.address
	}
	cfg.AgentAddress = ""
	if g.agentAddress != "" {
		cfg.AgentAddress = withScheme(g.agentAddress)
	}
	tls := &api.TLSConfig{
		CACert: g.caCert, CACertBytes: []byte(c.env.get("VAULT_CACERT_BYTES")), CAPath: g.caPath,
		ClientCert: g.clientCert, ClientKey: g.clientKey,
		TLSServerName: g.tlsServerName, Insecure: g.tlsSkipVerify,
	}
	if err := cfg.ConfigureTLS(tls); err != nil {
		return fmt.Errorf("failed to setup TLS config: %w", err)
	}
	if transport, ok := cfg.HttpClient.Transport.(*http.Transport); ok {
		if c.flags.given("tls-skip-verify") && transport.TLSClientConfig != nil {
			transport.TLSClientConfig.InsecureSkipVerify = g.tlsSkipVerify
		}
		if proxy := firstOf(c.env.get("VAULT_PROXY_ADDR"), c.env.get("VAULT_HTTP_PROXY")); proxy != "" {
			u, err := url.Parse(proxy)
			if err != nil {
				return fmt.Errorf("proxy address: %w", err)
			}
			transport.Proxy = http.ProxyURL(u)
		}
	}
	cfg.DisableRedirects = g.disableRedirects
	return c.configureLimits(cfg)
}

// configureLimits reads time-out, retries and rate limit.
func (c *call) configureLimits(cfg *api.Config) error {
	if s := c.env.get("VAULT_CLIENT_TIMEOUT"); s != "" {
		d, err := parseDuration(s)
		if err != nil {
			return fmt.Errorf("could not parse %q", "VAULT_CLIENT_TIMEOUT")
		}
		cfg.Timeout = d
	}
	if s := c.env.get("VAULT_MAX_RETRIES"); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return fmt.Errorf("could not parse %q", "VAULT_MAX_RETRIES")
		}
		cfg.MaxRetries = int(n)
	}
	if s := c.env.get("VAULT_SRV_LOOKUP"); s != "" {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("could not parse %q", "VAULT_SRV_LOOKUP")
		}
		cfg.SRVLookup = b
	}
	cfg.MinRetryWait, cfg.MaxRetryWait = time.Second, 1500*time.Millisecond
	return nil
}

// defaultWrapTTL repeats what the API client does of itself: sys/wrapping/wrap
// without a TTL lasts five minutes.
func defaultWrapTTL(operation, path string) string {
	if (operation == http.MethodPut || operation == http.MethodPost) && path == "sys/wrapping/wrap" {
		return api.DefaultWrappingTTL
	}
	return ""
}

func addEnvHeaders(client *api.Client, list string) error {
	if list == "" {
		return nil
	}
	var headers map[string]string
	if err := json.Unmarshal([]byte(list), &headers); err != nil {
		return fmt.Errorf("ARCA_HEADERS must be a JSON object of strings: %w", err)
	}
	for k, v := range headers {
		client.AddHeader(k, v)
	}
	return nil
}

// withScheme completes an address without one: an agent listens on a loopback
// address without TLS as a rule (trap T5: VAULT_AGENT_ADDR=127.0.0.1:8007).
func withScheme(address string) string {
	if strings.Contains(address, "://") {
		return address
	}
	return "http://" + address
}

// canonicalNamespace is the form the header has: no leading slash, one trailing.
func canonicalNamespace(path string) string {
	if path = strings.Trim(path, "/ "); path == "" || path == "root" {
		return ""
	}
	return path + "/"
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// request sends a request whose verb the client's typed calls do not offer, and
// returns the parsed answer; nil when the body is empty.
func (c *call) request(method, path string, body any) (*api.Secret, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	r := client.NewRequest(method, "/v1/"+strings.TrimPrefix(path, "/"))
	if body != nil {
		if err := r.SetJSONBody(body); err != nil {
			return nil, err
		}
	}
	resp, err := client.RawRequestWithContext(c.ctx, r) //nolint:staticcheck // SA1019: the client has no other call for an arbitrary verb
	if resp == nil || (err != nil && method != http.MethodGet && method != "LIST") {
		if resp != nil {
			_ = resp.Body.Close() // the error tells all
		}
		return nil, err
	}
	return client.Logical().ParseRawResponseAndCloseBody(resp, err)
}
