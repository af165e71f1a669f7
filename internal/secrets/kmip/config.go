package kmip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// config is what POST config has set.
type config struct {
	Version   int           `json:"v"`
	Listen    []string      `json:"listen"`
	Timeout   time.Duration `json:"timeout"` // of a handshake; 0: the default
	Hostnames []string      `json:"hostnames"`
	IPs       []string      `json:"ips"`
	CA        keyKind       `json:"ca"`
	MinTLS    string        `json:"min_tls"`
	MaxTLS    string        `json:"max_tls,omitempty"`
	Suites    []string      `json:"suites,omitempty"`
	Client    keyKind       `json:"client"`
	ClientTTL time.Duration `json:"client_ttl"`

	// Bounds; 0 is the default.
	Connections int           `json:"conns,omitempty"`
	OfRole      int           `json:"of_role,omitempty"`
	OfAddress   int           `json:"of_address,omitempty"`
	MaxMessage  int           `json:"max_message,omitempty"` // bytes
	Kept        time.Duration `json:"kept,omitempty"`        // destroyed objects
	Rates       rates         `json:"rates,omitzero"`
	Proxies     []string      `json:"proxies,omitempty"` // addresses and networks whose PROXY header is believed

	CertifyCA  string        `json:"certify_ca,omitempty"` // name of the authority of objects' certificates; "": none are issued
	CertifyTTL time.Duration `json:"certify_ttl,omitempty"`

	Hooks hooks `json:"hooks,omitzero"` // who is told of certificates before they end
}

// bounds are those in force.
func (c *config) bounds() (connections, ofRole, ofAddress, message int) {
	or := func(v, def int) int {
		if v == 0 {
			return def
		}
		return v
	}
	return or(c.Connections, maxConnections), or(c.OfRole, maxOfRole), or(c.OfAddress, maxOfAddress), or(c.MaxMessage, maxMessage)
}

// kept is how long destroyed objects are.
func (c *config) kept() time.Duration {
	if c.Kept == 0 {
		return objectKept
	}
	return c.Kept
}

const (
	configKey        = "config"
	defaultHandshake = 10 * time.Second
	leastHandshake   = 5 * time.Second
	maxAddresses     = 32
)

func newConfig() *config {
	return &config{
		Version: 1, Listen: []string{"127.0.0.1:5696"}, Hostnames: []string{"localhost"}, IPs: []string{"127.0.0.1", "::1"},
		CA: keyKind{"ec", 521}, MinTLS: "tls12", Client: keyKind{"ec", 521}, ClientTTL: 24 * time.Hour,
	}
}

type configIn struct {
	hooksIn
	Listen     *[]string      `api:"listen_addrs" help:"Addresses to listen at, host:port."`
	Timeout    *time.Duration `api:"connection_timeout" help:"Time for a new connection's TLS handshake."`
	Hostnames  *[]string      `api:"server_hostnames" help:"DNS names of the server's certificate."`
	IPs        *[]string      `api:"server_ips" help:"IP addresses of the server's certificate."`
	CAType     *string        `api:"tls_ca_key_type" help:"Type of the authority's keys: ec or rsa."`
	CABits     *int           `api:"tls_ca_key_bits" help:"Length of the authority's keys."`
	MinTLS     *string        `api:"tls_min_version" help:"Least version of TLS: tls12 or tls13."`
	MaxTLS     *string        `api:"tls_max_version" help:"Highest version of TLS."`
	Suites     *[]string      `api:"tls_cipher_suites" help:"Cipher suites of TLS 1.2."`
	ClientType *string        `api:"default_tls_client_key_type" help:"Type of clients' keys: ec or rsa."`
	ClientBits *int           `api:"default_tls_client_key_bits" help:"Length of clients' keys."`
	ClientTTL  *time.Duration `api:"default_tls_client_ttl" help:"How long clients' certificates are valid."`

	Connections *int           `api:"max_connections" help:"How many connections the mount's listeners hold at most."`
	OfRole      *int           `api:"max_connections_per_role" help:"How many of them belong to one role at most."`
	OfAddress   *int           `api:"max_connections_per_address" help:"How many of them come from one address at most."`
	MaxMessage  *int           `api:"max_message_size" help:"How large a message may be, in bytes."`
	Kept        *time.Duration `api:"destroyed_object_retention" help:"How long the attributes of destroyed objects are kept."`
	OfRoleRate  *int           `api:"max_operations_per_second_per_role" help:"How many operations clients of one role may ask for in a second, at each node; a role may have its own limit. 0 is no limit."`
	Proxies     *[]string      `api:"proxy_protocol_authorized_addrs" help:"Addresses and networks of balancers that say by the PROXY protocol whose connection it is."`
	EachRate    *int           `api:"max_operations_per_second_per_client" help:"... and each certificate."`

	CertifyCA  *string        `api:"certify_ca" help:"Name of the generated authority that issues certificates for objects (Certify, Re-certify). It can be no listener's."`
	CertifyTTL *time.Duration `api:"certify_ttl" help:"How long these certificates are valid."`
}

func (e *Engine) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := get[config](call.Tx, configKey)
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"listen_addrs": param.OrEmpty(c.Listen), "server_hostnames": param.OrEmpty(c.Hostnames), "server_ips": param.OrEmpty(c.IPs),
		"tls_ca_key_type": c.CA.Type, "tls_ca_key_bits": c.CA.Bits, "tls_min_version": c.MinTLS,
		"default_tls_client_key_type": c.Client.Type, "default_tls_client_key_bits": c.Client.Bits,
		"default_tls_client_ttl": int64(c.ClientTTL / time.Second),
	}
	if c.MaxTLS != "" {
		out["tls_max_version"] = c.MaxTLS
	}
	if len(c.Suites) > 0 {
		out["tls_cipher_suites"] = c.Suites
	}
	// What Vault does not have is shown where it was set.
	for name, n := range map[string]int64{
		"max_connections": int64(c.Connections), "max_connections_per_role": int64(c.OfRole), "max_connections_per_address": int64(c.OfAddress),
		"max_message_size": int64(c.MaxMessage), "destroyed_object_retention": int64(c.Kept / time.Second),
		"certify_ttl": int64(c.CertifyTTL / time.Second), "max_operations_per_second_per_role": int64(c.Rates.Role),
		"max_operations_per_second_per_client": int64(c.Rates.Client),
	} {
		if n != 0 {
			out[name] = n
		}
	}
	if c.CertifyCA != "" {
		out["certify_ca"] = c.CertifyCA
	}
	if len(c.Proxies) > 0 {
		out["proxy_protocol_authorized_addrs"] = c.Proxies
	}
	c.Hooks.show(out)
	out["connection_timeout"] = int64(max(c.Timeout, time.Second) / time.Second) // 1 is what Vault says where nothing was set
	return data(out), nil
}

func (e *Engine) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	c, err := get[config](call.Tx, configKey)
	if errors.Is(err, errNotFound) {
		c = newConfig()
	} else if err != nil {
		return nil, err
	}
	before := *c
	if err := c.apply(call, &in); err != nil {
		return nil, err
	}
	named, err := listeners(call.Tx)
	if err != nil {
		return nil, err
	}
	for name, l := range named {
		if slices.Contains(c.Listen, l.Address) {
			return nil, errs.New(errs.Invalid, "the listener %q listens at %s", name, l.Address)
		}
		if c.CertifyCA != "" && l.CA == c.CertifyCA {
			return nil, errs.New(errs.Invalid, "certify_ca: the listener %q has its certificate from the authority %q: who may certify could be the server", name, l.CA)
		}
	}
	if c.CertifyCA != "" && c.CertifyCA != before.CertifyCA {
		if _, err := issuer(call.Tx, c.CertifyCA, nil); err != nil {
			return nil, err
		}
	}
	if call.Asked == nil {
		// Addresses that are not listened at yet must be free, before anything changes.
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			return true, e.servers.tryAddresses(ctx, call.Mount.ID, c.Listen)
		})
	}
	_, err = call.Tx.Get(caKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	if first := err != nil; first || before.CA != c.CA {
		if !first {
			// They stop on connections that are open, too.
			if err := call.Tx.DeletePrefix("cred/"); err != nil {
				return nil, err
			}
			call.Warn("The authority was made anew: certificates of the one before do not work any more.")
		}
		a, err := newAuthority(c.CA, call.Mount.Accessor, call.Now)
		if err != nil {
			return nil, err
		}
		if err := storage.PutJSON(call.Tx, caKey, a); err != nil {
			return nil, err
		}
	}
	if err := storage.PutJSON(call.Tx, configKey, c); err != nil {
		return nil, err
	}
	if err := c.Hooks.marks(call.Tx, call.Now); err != nil {
		return nil, err
	}
	c.Hooks.warn(call, c.ClientTTL)
	e.announce(call)
	if len(call.Warnings()) > 0 {
		return &engine.Response{}, nil
	}
	return nil, nil
}

// announce has the listeners follow when the transaction is durable, and waits a
// little for them before the answer.
func (e *Engine) announce(call *engine.Call) {
	committed := false
	call.Tx.OnCommit(func() { committed = true })
	call.After(func() {
		if committed {
			e.servers.sync()
		}
	})
}

func (c *config) apply(call *engine.Call, in *configIn) error {
	fresh := newConfig()
	// A field that is null returns to its default.
	null := func(name string) bool { return string(call.Request.Params.Get(name)) == "null" }
	take(&c.Listen, in.Listen, null("listen_addrs"), fresh.Listen)
	take(&c.Hostnames, in.Hostnames, null("server_hostnames"), fresh.Hostnames)
	take(&c.IPs, in.IPs, null("server_ips"), fresh.IPs)
	take(&c.Suites, in.Suites, null("tls_cipher_suites"), nil)
	take(&c.MinTLS, in.MinTLS, null("tls_min_version"), fresh.MinTLS)
	take(&c.MaxTLS, in.MaxTLS, null("tls_max_version"), "")
	take(&c.Timeout, in.Timeout, null("connection_timeout"), 0)
	take(&c.ClientTTL, in.ClientTTL, null("default_tls_client_ttl"), fresh.ClientTTL)
	take(&c.Connections, in.Connections, null("max_connections"), 0)
	take(&c.OfRole, in.OfRole, null("max_connections_per_role"), 0)
	take(&c.OfAddress, in.OfAddress, null("max_connections_per_address"), 0)
	take(&c.MaxMessage, in.MaxMessage, null("max_message_size"), 0)
	take(&c.Kept, in.Kept, null("destroyed_object_retention"), 0)
	take(&c.Rates.Role, in.OfRoleRate, null("max_operations_per_second_per_role"), 0)
	take(&c.Rates.Client, in.EachRate, null("max_operations_per_second_per_client"), 0)
	take(&c.Proxies, in.Proxies, null("proxy_protocol_authorized_addrs"), nil)
	take(&c.CertifyCA, in.CertifyCA, null("certify_ca"), "")
	take(&c.CertifyTTL, in.CertifyTTL, null("certify_ttl"), 0)
	err := c.Hooks.apply(&in.hooksIn, null)
	if err != nil {
		return err
	}
	if c.CA, err = c.CA.change(in.CAType, in.CABits, "tls_ca_key"); err != nil {
		return err
	}
	if c.Client, err = c.Client.change(in.ClientType, in.ClientBits, "default_tls_client_key"); err != nil {
		return err
	}
	return c.check(in)
}

// take sets what was given, or the default where null was.
func take[T any](into *T, from *T, null bool, def T) {
	switch {
	case null:
		*into = def
	case from != nil:
		*into = *from
	}
}

func (c *config) check(in *configIn) error {
	if len(c.Listen) > maxAddresses || len(c.Hostnames) > maxAddresses || len(c.IPs) > maxAddresses {
		return errs.New(errs.Invalid, "at most %d addresses or names can be given", maxAddresses)
	}
	for _, a := range c.Listen {
		host, port, err := net.SplitHostPort(a)
		if err != nil || port == "" {
			return errs.New(errs.Invalid, "listen_addrs: %q is not of the form host:port", a)
		}
		if _, err := net.LookupPort("tcp", port); err != nil || strings.ContainsAny(host, " /") {
			return errs.New(errs.Invalid, "listen_addrs: %q has no valid host and port", a)
		}
	}
	for _, ip := range []string{"127.0.0.1", "::1"} {
		if !slices.Contains(c.IPs, ip) {
			c.IPs = append(c.IPs, ip)
		}
	}
	for _, ip := range c.IPs {
		if net.ParseIP(ip) == nil {
			return errs.New(errs.Invalid, "server_ips: %q is no IP address", ip)
		}
	}
	if in.Timeout != nil && *in.Timeout < time.Second {
		return errs.New(errs.Invalid, "connection_timeout must be at least one second")
	}
	if c.ClientTTL < time.Minute || c.ClientTTL > caLife {
		return errs.New(errs.Invalid, "default_tls_client_ttl must be from one minute to ten years")
	}
	for name, n := range map[string]int{"max_connections": c.Connections, "max_connections_per_role": c.OfRole, "max_connections_per_address": c.OfAddress} {
		if n < 0 || n > 1_000_000 {
			return errs.New(errs.Invalid, "%s must be from 1 to 1000000, or 0 for the default", name)
		}
	}
	if c.MaxMessage != 0 && (c.MaxMessage < 4<<10 || c.MaxMessage > 64<<20) {
		return errs.New(errs.Invalid, "max_message_size must be from 4096 to 67108864 bytes, or 0 for the default")
	}
	if c.Kept != 0 && (c.Kept < leastKept || c.Kept > caLife) {
		return errs.New(errs.Invalid, "destroyed_object_retention must be from 24 hours to ten years")
	}
	if c.CertifyTTL != 0 && (c.CertifyTTL < time.Minute || c.CertifyTTL > caLife) {
		return errs.New(errs.Invalid, "certify_ttl must be from one minute to ten years, or 0 for a year")
	}
	if err := c.Rates.check("max_operations_per_second_per_role", "max_operations_per_second_per_client"); err != nil {
		return err
	}
	if _, err := proxies(c.Proxies); err != nil {
		return err
	}
	_, err := c.tls()
	return err
}

// tls are the settings of TLS.
func (c *config) tls() (*tls.Config, error) {
	out := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}
	var err error
	if out.MinVersion, err = tlsVersion("tls_min_version", c.MinTLS); err != nil {
		return nil, err
	}
	if c.MaxTLS != "" {
		if out.MaxVersion, err = tlsVersion("tls_max_version", c.MaxTLS); err != nil {
			return nil, err
		}
		if out.MaxVersion < out.MinVersion {
			return nil, errs.New(errs.Invalid, "tls_max_version is below tls_min_version")
		}
	}
	for _, name := range c.Suites {
		id := uint16(0)
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if s.Name == name {
				id = s.ID
			}
		}
		if id == 0 {
			return nil, errs.New(errs.Invalid, "tls_cipher_suites: %q is not known", name)
		}
		out.CipherSuites = append(out.CipherSuites, id)
	}
	return out, nil
}

func tlsVersion(name, text string) (uint16, error) {
	switch text {
	case "tls12":
		return tls.VersionTLS12, nil
	case "tls13":
		return tls.VersionTLS13, nil
	case "tls10", "tls11":
		return 0, errs.New(errs.Invalid, "%s: %s is broken and not supported: use tls12 or tls13", name, text)
	}
	return 0, errs.New(errs.Invalid, "%s must be tls12 or tls13, not %q", name, text)
}

// A keyKind is a type of keys and their length in bits.
type keyKind struct {
	Type string `json:"t,omitempty"`
	Bits int    `json:"b,omitempty"`
}

func (k keyKind) change(typ *string, bits *int, name string) (keyKind, error) {
	out := k
	if typ != nil && *typ != "" && *typ != out.Type {
		out.Type, out.Bits = *typ, map[string]int{"ec": 521, "rsa": 2048}[*typ]
	}
	if bits != nil && *bits != 0 {
		out.Bits = *bits
	}
	return out, out.check(name)
}

func (k keyKind) check(name string) error {
	allowed := map[string][]int{"ec": {224, 256, 384, 521}, "rsa": {2048, 3072, 4096, 8192}}[k.Type]
	if allowed == nil {
		return errs.New(errs.Invalid, "%s_type must be ec or rsa, not %q", name, k.Type)
	}
	if !slices.Contains(allowed, k.Bits) {
		return errs.New(errs.Invalid, "%s_bits of %s keys must be one of %s, not %d", name, k.Type, strings.Trim(fmt.Sprint(allowed), "[]"), k.Bits)
	}
	return nil
}
