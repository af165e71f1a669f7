// Package config reads the configuration file of a KES server: one YAML document
// with KES's fields, those of its older versions, and references to environment
// variables.
//
//	cfg, err := config.Read("config.yml", os.LookupEnv)
//	keys, err := cfg.KeyStore.Open(ctx, log)
//
// Everything wrong with it is found here, with the line, and nothing is done but
// reading. Unknown fields are ignored, as KES ignores them.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"arca/internal/errs"
	"arca/internal/kes/policy"
)

// Defaults.
const (
	DefaultAddress     = "0.0.0.0:7373"
	defaultProxyHeader = "X-Tls-Client-Cert"

	maxFile = 8 << 20 // bytes
)

// Off is a log level beyond all events.
const Off = slog.Level(math.MaxInt)

// A Config is a whole configuration.
type Config struct {
	Address  string
	Admin    string // an identity, or a word that is none
	TLS      TLS
	Policies *policy.Set
	API      map[string]API // by path
	ErrorLog slog.Level
	AuditLog slog.Level
	Cache    Cache
	Keys     []string // to be created before serving
	KeyStore KeyStore
}

// TLS is how the server shows itself and whom it asks for certificates.
type TLS struct {
	Key, Cert, Password, CA string
	Verify                  bool // tls.auth: on
	Proxies                 []string
	ProxyHeader             string
}

// An API is a change to one call.
type API struct {
	Timeout  time.Duration
	SkipAuth bool
}

// A Cache is how long keys are kept in memory; zero values are defaults.
type Cache struct{ Any, Unused, Offline time.Duration }

// file is the document.
type file struct {
	Version string `yaml:"version"`
	Address string `yaml:"address"`
	Root    string `yaml:"root"` // before v0.17
	Admin   struct {
		Identity string `yaml:"identity"`
	} `yaml:"admin"`
	TLS struct {
		Key      string `yaml:"key"`
		Cert     string `yaml:"cert"`
		Password string `yaml:"password"`
		CA       string `yaml:"ca"`
		Auth     string `yaml:"auth"`
		Proxy    struct {
			Identities []string `yaml:"identities"`
			Header     struct {
				Cert string `yaml:"cert"`
			} `yaml:"header"`
		} `yaml:"proxy"`
	} `yaml:"tls"`
	Policy map[string]struct {
		Allow      []string `yaml:"allow"`
		Paths      []string `yaml:"paths"` // before v0.20
		Deny       []string `yaml:"deny"`
		Identities []string `yaml:"identities"`
	} `yaml:"policy"`
	Cache struct {
		Expiry struct {
			Any     duration `yaml:"any"`
			Unused  duration `yaml:"unused"`
			Offline duration `yaml:"offline"`
		} `yaml:"expiry"`
	} `yaml:"cache"`
	API map[string]struct {
		Timeout  duration `yaml:"timeout"`
		SkipAuth bool     `yaml:"skip_auth"`
	} `yaml:"api"`
	Log struct {
		Error string `yaml:"error"`
		Audit string `yaml:"audit"`
	} `yaml:"log"`
	Keys     yaml.Node `yaml:"keys"`
	KeyStore KeyStore  `yaml:"keystore"`
}

// Read reads a file. lookup finds environment variables.
func Read(path string, lookup func(string) (string, bool)) (*Config, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, errs.New(errs.Invalid, "configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, errs.New(errs.Invalid, "configuration: %w", err)
	}
	cfg, err := Parse(data, lookup)
	if err != nil {
		return nil, errs.New(errs.Invalid, "configuration %s: %w", path, err)
	}
	return cfg, nil
}

// Parse reads a document.
func Parse(data []byte, lookup func(string) (string, bool)) (*Config, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, plain(err)
	}
	if err := substitute(&root, lookup, nil); err != nil {
		return nil, err
	}
	var f file
	if root.Kind != 0 { // an empty document decodes to nothing
		if err := root.Decode(&f); err != nil {
			return nil, plain(err)
		}
	}
	return f.config()
}

// plain takes the library's name off its messages.
func plain(err error) error {
	return errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", ""))
}

// substitute replaces "${NAME}" by the environment's value, which is then read
// as if it stood there. The version and the rules of policies are taken as they
// are.
func substitute(n *yaml.Node, lookup func(string) (string, bool), at []string) error {
	if n.Kind == yaml.ScalarNode {
		return substituteScalar(n, lookup)
	}
	for i, child := range n.Content {
		where := at
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue // a name
			}
			where = append(at[:len(at):len(at)], n.Content[i-1].Value)
			if isVerbatim(where) {
				continue
			}
		}
		if err := substitute(child, lookup, where); err != nil {
			return err
		}
	}
	return nil
}

func isVerbatim(at []string) bool {
	if len(at) == 1 && at[0] == "version" {
		return true
	}
	return len(at) == 3 && at[0] == "policy" && (at[2] == "allow" || at[2] == "deny" || at[2] == "paths")
}

func substituteScalar(n *yaml.Node, lookup func(string) (string, bool)) error {
	text := strings.TrimSpace(n.Value)
	if !strings.HasPrefix(text, "${") || !strings.HasSuffix(text, "}") {
		return nil
	}
	name := strings.TrimSpace(text[2 : len(text)-1])
	value, ok := lookup(name)
	if !ok {
		return fmt.Errorf("line %d: the environment variable %q is not set", n.Line, name)
	}
	n.Value, n.Tag, n.Style = value, "", 0
	return nil
}

// A duration is a time such as "15s"; nothing is 0.
type duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "" || n.Tag == "!!null" {
		return nil
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is no duration, such as 15s or 5m", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

func (f *file) config() (*Config, error) {
	if f.Version != "" && f.Version != "v1" {
		return nil, fmt.Errorf("version: %q is unknown; it is v1", f.Version)
	}
	c := &Config{
		Address: or(f.Address, DefaultAddress), Admin: or(f.Admin.Identity, f.Root),
		Cache:    Cache{time.Duration(f.Cache.Expiry.Any), time.Duration(f.Cache.Expiry.Unused), time.Duration(f.Cache.Expiry.Offline)},
		API:      map[string]API{},
		KeyStore: f.KeyStore,
	}
	if err := CheckAddress(c.Address); err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	if c.Admin == "" {
		return nil, errors.New("admin.identity is missing: set it to an identity, or to \"disabled\"")
	}
	if c.Cache.Any < 0 || c.Cache.Unused < 0 || c.Cache.Offline < 0 {
		return nil, errors.New("cache.expiry: a duration is negative")
	}
	for path, a := range f.API {
		if a.Timeout < 0 {
			return nil, fmt.Errorf("api.%s.timeout is negative", path)
		}
		c.API[path] = API{time.Duration(a.Timeout), a.SkipAuth}
	}
	var err error
	if c.ErrorLog, err = parseLevel(f.Log.Error); err != nil {
		return nil, fmt.Errorf("log.error: %w", err)
	}
	if c.AuditLog, err = parseLevel(f.Log.Audit); err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	if err := f.tls(c); err != nil {
		return nil, err
	}
	if err := f.policies(c); err != nil {
		return nil, err
	}
	if err := f.keys(c); err != nil {
		return nil, err
	}
	return c, c.KeyStore.check()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// CheckAddress refuses what is no IP address with a port, or a port alone.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address and port, such as 0.0.0.0:7373", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%q begins with no IP address; host names are not looked up", address)
		}
	}
	return nil
}

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "", "on":
		return slog.LevelInfo, nil
	case "off":
		return Off, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		return slog.Level(n), nil
	}
	var l slog.Level
	if l.UnmarshalText([]byte(text)) != nil {
		return 0, fmt.Errorf("there is no level %q; there are off, on, DEBUG, INFO, WARN and ERROR", text)
	}
	return l, nil
}

func (f *file) tls(c *Config) error {
	t := f.TLS
	c.TLS = TLS{
		Key: t.Key, Cert: t.Cert, Password: t.Password, CA: t.CA,
		Proxies: t.Proxy.Identities, ProxyHeader: or(t.Proxy.Header.Cert, defaultProxyHeader),
	}
	switch strings.ToLower(t.Auth) {
	case "", "off":
	case "on":
		c.TLS.Verify = true
	default:
		return fmt.Errorf("tls.auth: %q is neither on nor off", t.Auth)
	}
	if t.Key == "" {
		return errors.New("tls.key is missing: a KES server runs over TLS only (kes identity new makes a key and a certificate)")
	}
	if t.Cert == "" {
		return errors.New("tls.cert is missing: a KES server runs over TLS only (kes identity new makes a key and a certificate)")
	}
	for _, p := range c.TLS.Proxies {
		if p == c.Admin {
			return errors.New("tls.proxy.identities: the admin cannot be a TLS proxy")
		}
	}
	return nil
}

func (f *file) policies(c *Config) error {
	now := time.Now().UTC()
	set := &policy.Set{Policies: map[string]*policy.Policy{}, Identities: map[string]string{}, Admin: c.Admin, Since: now}
	proxies := map[string]bool{}
	for _, p := range c.TLS.Proxies {
		proxies[p] = true
	}
	for name, p := range f.Policy {
		made, err := policy.New(append(p.Allow, p.Paths...), p.Deny, now, c.Admin)
		if err != nil {
			return fmt.Errorf("policy.%s: %w", name, err)
		}
		set.Policies[name] = made
		for _, id := range p.Identities {
			other, twice := set.Identities[id]
			switch {
			case id == "":
				continue
			case id == c.Admin:
				return fmt.Errorf("policy.%s: the admin may do everything and has no policy", name)
			case proxies[id]:
				return fmt.Errorf("policy.%s: %s is a TLS proxy and has no policy", name, id)
			case twice && other != name:
				return fmt.Errorf("policy: the identity %s is in %s and in %s; it has one policy", id, min(name, other), max(name, other))
			}
			set.Identities[id] = name
		}
	}
	c.Policies = set
	return nil
}

// keys reads the names of predefined keys. Before v0.14, the key store stood
// there.
func (f *file) keys(c *Config) error {
	if f.Keys.Kind == yaml.MappingNode {
		if c.KeyStore.isEmpty() {
			return plainOrNil(f.Keys.Decode(&c.KeyStore))
		}
		return nil
	}
	if f.Keys.Kind == 0 {
		return nil
	}
	var list []struct {
		Name string `yaml:"name"`
	}
	if err := f.Keys.Decode(&list); err != nil {
		return plain(err)
	}
	seen := map[string]bool{}
	for _, k := range list {
		switch {
		case k.Name == "":
			return errors.New("keys: one of them has no name")
		case seen[k.Name]:
			return fmt.Errorf("keys: %q is listed twice", k.Name)
		}
		seen[k.Name] = true
		c.Keys = append(c.Keys, k.Name)
	}
	return nil
}

func plainOrNil(err error) error {
	if err == nil {
		return nil
	}
	return plain(err)
}
