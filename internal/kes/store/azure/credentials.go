package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// credentials get tokens for a vault: by a client's secret or a workload's
// token, or from the machine.
type credentials struct {
	cfg Config
	web *http.Client
}

// resource is what tokens are for: the domain of the vault, and of no other service of Azure.
func (c *credentials) resource() string {
	domains := []string{strings.TrimSuffix(strings.TrimPrefix(c.cfg.Domain, "https://"), "/")}
	if u, err := url.Parse(c.cfg.Endpoint); err == nil {
		_, domain, _ := strings.Cut(u.Hostname(), ".")
		domains = []string{domain, domains[0]}
	}
	for _, domain := range domains {
		if strings.HasPrefix(domain, "vault.") || strings.HasPrefix(domain, "managedhsm.") {
			return "https://" + domain
		}
	}
	return "https://vault.azure.net"
}

// token gets an access token.
func (c *credentials) token(ctx context.Context, _ string) (string, time.Duration, error) {
	tenant, id, secret := c.cfg.TenantID, c.cfg.ClientID, c.cfg.ClientSecret
	if secret == "" && !c.cfg.Managed { // what the configuration does not have
		tenant, id, secret = cmp.Or(tenant, os.Getenv("AZURE_TENANT_ID")), cmp.Or(id, os.Getenv("AZURE_CLIENT_ID")), os.Getenv("AZURE_CLIENT_SECRET")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "scope": {c.resource() + "/.default"}}
	file := os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
	switch {
	case secret != "":
		form.Set("client_secret", secret)
	case file != "" && tenant != "" && !c.cfg.Managed:
		text, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return "", 0, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", strings.TrimSpace(string(text)))
	default:
		return c.machine(ctx, id)
	}
	authority := cmp.Or(c.cfg.Authority, os.Getenv("AZURE_AUTHORITY_HOST"), "https://login.microsoftonline.com")
	target := strings.TrimSuffix(authority, "/") + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode())) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.ask(r)
}

// machine asks the instance metadata service for the token of a managed
// identity.
func (c *credentials) machine(ctx context.Context, id string) (string, time.Duration, error) {
	if c.cfg.ManagedID != "" {
		id = c.cfg.ManagedID
	}
	q := url.Values{"api-version": {"2018-02-01"}, "resource": {c.resource()}}
	if id != "" {
		q.Set("client_id", id)
	}
	base := os.Getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
	if base == "" {
		base = "http://169.254.169.254"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/metadata/identity/oauth2/token?"+q.Encode(), nil) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Metadata", "true")
	return c.ask(r)
}

func (c *credentials) ask(r *http.Request) (string, time.Duration, error) {
	answer, err := rest.Metadata(c.web, r).Do(r) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return "", 0, &store.UnreachableError{Err: err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return "", 0, &store.UnreachableError{Err: err}
	}
	if answer.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("%s: %w", r.URL.Host, &rest.StatusError{Code: answer.StatusCode})
	}
	var out struct {
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &out) != nil || out.AccessToken == "" {
		return "", 0, fmt.Errorf("%s answered no token", r.URL.Host)
	}
	seconds, err := out.ExpiresIn.Int64()
	if err != nil {
		seconds = 300
	}
	return out.AccessToken, time.Duration(max(60, min(seconds, 1<<30))) * time.Second, nil
}
