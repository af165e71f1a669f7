package registration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/param"
)

// consul is the agent that the service is registered with. Ids, tags, the check and its words are Vault's.
type consul struct {
	base, token    string
	http           *http.Client
	service        service
	check          string
	tags           []string
	timeout        time.Duration
	registeredOnce bool
}

// service is the body of /v1/agent/service/register.
type service struct {
	ID                string
	Name              string
	Tags              []string
	Port              int
	Address           string
	EnableTagOverride bool
	Meta              map[string]string
	Check             *check
}

// check is the service's, by time to live: it is critical when nothing is heard.
type check struct {
	CheckID, Name, Notes, Status, Output, TTL string
}

const (
	defaultCheck = 5 * time.Second
	leastCheck   = time.Second
	dialTime     = 3 * time.Second
	requestTime  = 5 * time.Second
	maxAnswer    = 4 << 10
	sealedCheck  = "vault-sealed-check"
)

var serviceName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)

// newConsul reads the stanza; what it does not say, the variables of Consul's own clients do.
func newConsul(cfg *Config) (*consul, error) {
	o := cfg.Stanza.Options
	c := &consul{timeout: defaultCheck, token: first(o["token"], cfg.Getenv("CONSUL_HTTP_TOKEN"))}
	if file := cfg.Getenv("CONSUL_HTTP_TOKEN_FILE"); c.token == "" && file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, errs.New(errs.Invalid, "CONSUL_HTTP_TOKEN_FILE: %w", err)
		}
		c.token = strings.TrimSpace(string(text))
	}
	if text := o["check_timeout"]; text != "" {
		d, err := param.ParseDuration(text)
		if err != nil || d < leastCheck {
			return nil, errs.New(errs.Invalid, "check_timeout is %q: it must be a time of at least %s", text, leastCheck)
		}
		c.timeout = d
	}
	if err := c.connection(cfg); err != nil {
		return nil, err
	}
	return c, c.describe(cfg)
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func boolean(s *config.Registration, name string) (bool, error) {
	text := s.Options[name]
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, errs.New(errs.Invalid, "%s: %s must be true or false, not %q", s.Pos, name, text)
	}
	return v, nil
}

// connection says how the agent is reached.
func (c *consul) connection(cfg *Config) error {
	o := cfg.Stanza.Options
	scheme := o["scheme"]
	if ssl, _ := strconv.ParseBool(cfg.Getenv("CONSUL_HTTP_SSL")); scheme == "" && ssl { // what is no bool is none
		scheme = "https"
	}
	address := first(o["address"], cfg.Getenv("CONSUL_HTTP_ADDR"), "127.0.0.1:8500")
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, IdleConnTimeout: 3 * time.Minute, MaxIdleConns: 2,
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", path)
		}
		scheme, address = "http", "consul"
	} else if before, rest, ok := strings.Cut(address, "://"); ok {
		scheme, address = before, rest
	}
	scheme = first(scheme, "http")
	if scheme != "http" && scheme != "https" {
		return errs.New(errs.Invalid, "the scheme must be http or https, not %q", scheme)
	}
	c.base = scheme + "://" + strings.TrimSuffix(address, "/")
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || u.User != nil {
		return errs.New(errs.Invalid, "address must be a host and a port, as in 127.0.0.1:8500")
	}
	if scheme == "https" {
		var err error
		if transport.TLSClientConfig, err = consulTLS(cfg); err != nil {
			return err
		}
	}
	c.http = &http.Client{
		Timeout: requestTime, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}
	return nil
}

func consulTLS(cfg *Config) (*tls.Config, error) {
	o := cfg.Stanza.Options
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.Getenv("CONSUL_TLS_SERVER_NAME")}
	if text := o["tls_min_version"]; text != "" {
		versions := map[string]uint16{"tls10": tls.VersionTLS10, "tls11": tls.VersionTLS11, "tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13}
		v, ok := versions[text]
		if !ok {
			return nil, errs.New(errs.Invalid, "tls_min_version must be tls10, tls11, tls12 or tls13, not %q", text)
		}
		conf.MinVersion = v
	}
	var err error
	if conf.InsecureSkipVerify, err = boolean(cfg.Stanza, "tls_skip_verify"); err != nil {
		return nil, err
	}
	if verify, err := strconv.ParseBool(cfg.Getenv("CONSUL_HTTP_SSL_VERIFY")); o["tls_skip_verify"] == "" && err == nil && !verify {
		conf.InsecureSkipVerify = true
	}
	if file := first(o["tls_ca_file"], cfg.Getenv("CONSUL_CACERT")); file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, errs.New(errs.Invalid, "tls_ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errs.New(errs.Invalid, "tls_ca_file %q holds no certificate", file)
		}
	}
	cert, key := first(o["tls_cert_file"], cfg.Getenv("CONSUL_CLIENT_CERT")), first(o["tls_key_file"], cfg.Getenv("CONSUL_CLIENT_KEY"))
	if (cert == "") != (key == "") {
		return nil, errs.New(errs.Invalid, "tls_cert_file and tls_key_file belong together")
	}
	if cert != "" {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return nil, errs.New(errs.Invalid, "tls_cert_file and tls_key_file: %w", err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // which may have been renewed
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
	}
	return conf, nil
}

// describe makes the service of the stanza.
func (c *consul) describe(cfg *Config) error {
	o := cfg.Stanza.Options
	name := first(o["service"], "vault")
	if !serviceName.MatchString(name) {
		return errs.New(errs.Invalid, "service is %q: it must be a name that DNS takes", name)
	}
	u, err := url.Parse(cfg.APIAddr)
	if err != nil || u.Hostname() == "" {
		return errs.New(errs.Invalid, "api_addr must be set to the URL at which clients reach this server")
	}
	port := 443
	switch {
	case u.Port() != "":
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return errs.New(errs.Invalid, "the port of api_addr: %w", err)
		}
	case u.Scheme == "http":
		port = 80
	}
	host := u.Hostname()
	c.service = service{ID: name + ":" + host + ":" + strconv.Itoa(port), Name: name, Port: port, Address: host, Meta: map[string]string{"external-source": "vault"}}
	if address, ok := o["service_address"]; ok { // also "": the agent takes its own then
		c.service.Address = address
	}
	for k, v := range cfg.Stanza.Meta {
		c.service.Meta[k] = v
	}
	for tag := range strings.SplitSeq(o["service_tags"], ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			c.tags = append(c.tags, tag)
		}
	}
	c.check = c.service.ID + ":" + sealedCheck
	return nil
}

// every is twice in the time to live, and some more.
func (c *consul) every() time.Duration { return c.timeout * 2 / 5 }

func (c *consul) tell(ctx context.Context, s State, changed bool) error {
	status, output := "critical", "Vault Sealed"
	if !s.Sealed {
		status, output = "passing", "Vault Unsealed"
	}
	if !changed && c.registeredOnce {
		err := c.put(ctx, "/v1/agent/check/update/"+url.PathEscape(c.check), map[string]string{"Status": status, "Output": output})
		if err == nil {
			return nil
		}
		c.registeredOnce = false // the agent may have been started anew, and know nothing
	}
	reg := c.service
	reg.Tags = append([]string{}, c.tags...)
	if s.Active {
		reg.Tags = append(reg.Tags, "active")
	} else {
		reg.Tags = append(reg.Tags, "standby")
	}
	if s.Initialised {
		reg.Tags = append(reg.Tags, "initialized")
	}
	reg.Check = &check{
		CheckID: c.check, Name: "Vault Sealed Status", Status: status, Output: output, TTL: c.timeout.String(),
		Notes: "Vault service is healthy when Vault is in an unsealed status and can become an active Vault server",
	}
	if err := c.put(ctx, "/v1/agent/service/register", reg); err != nil {
		return err
	}
	// The agent keeps the status that a check had when it is registered again.
	err := c.put(ctx, "/v1/agent/check/update/"+url.PathEscape(c.check), map[string]string{"Status": status, "Output": output})
	c.registeredOnce = err == nil
	return err
}

func (c *consul) end(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	return c.put(ctx, "/v1/agent/service/deregister/"+url.PathEscape(c.service.ID), nil)
}

func (c *consul) put(ctx context.Context, path string, body any) error {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+path, in)
	if err != nil {
		return errs.New(errs.Invalid, "%w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "reach Consul: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return errs.New(errs.Unavailable, "read the answer of Consul: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return errs.New(errs.Unavailable, "Consul answers %d: %s", res.StatusCode, strings.TrimSpace(string(raw)))
	}
	return nil
}
