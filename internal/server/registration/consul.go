package registration

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	agent "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/param"
)

// consul is the agent that the service is registered with. Ids, tags, the check and its words are Vault's.
type consul struct {
	client         *agent.Client
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
	CheckID, Name, Notes, Status, TTL string
}

const (
	defaultCheck = 5 * time.Second
	leastCheck   = time.Second
	requestTime  = 5 * time.Second
	sealedCheck  = "vault-sealed-check"
)

var serviceName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)

// newConsul reads the stanza.
func newConsul(cfg *Config) (*consul, error) {
	o := cfg.Stanza.Options
	c := &consul{timeout: defaultCheck}
	if text := o["check_timeout"]; text != "" {
		d, err := param.ParseDuration(text)
		if err != nil || d < leastCheck {
			return nil, errs.New(errs.Invalid, "check_timeout is %q: it must be a time of at least %s", text, leastCheck)
		}
		c.timeout = d
	}
	var err error
	if c.client, err = agent.New(agent.Config{Options: o, Getenv: cfg.Getenv}); err != nil {
		return nil, err
	}
	return c, c.describe(cfg)
}

// describe makes the service of the stanza.
func (c *consul) describe(cfg *Config) error {
	o := cfg.Stanza.Options
	name := cmp.Or(o["service"], "vault")
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
		CheckID: c.check, Name: "Vault Sealed Status", Status: status, TTL: c.timeout.String(),
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
	defer c.client.Close()
	return c.put(ctx, "/v1/agent/service/deregister/"+url.PathEscape(c.service.ID), nil)
}

func (c *consul) put(ctx context.Context, path string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	_, err := c.client.Do(ctx, agent.Request{Method: http.MethodPut, Path: path, Body: raw})
	return err
}
