package config

import (
	"crypto/tls"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/config/source"
)

// A Listener is a listener stanza. A field without value is at its default,
// which Vault's documentation of the tcp listener gives.
type Listener struct {
	source.Pos
	Type           string // tcp, unix or kes
	Raw            map[string]any
	Address        string `conf:"address"`
	ClusterAddress string `conf:"cluster_address"`
	Purpose        Names  `conf:"purpose"`
	Role           string `conf:"role"`

	MaxRequestSize     *int64         `conf:"max_request_size"`
	MaxRequestDuration *time.Duration `conf:"max_request_duration"`
	RequireHeader      bool           `conf:"require_request_header"`
	ChrootNamespace    string         `conf:"chroot_namespace"`
	Headers            Headers        `conf:"custom_response_headers"`

	ListenerTLS
	ListenerHTTP
	Proxies
	Socket
	ListenerKept

	KES

	Telemetry struct {
		UnauthenticatedMetrics bool `conf:"unauthenticated_metrics_access"`
		DisallowMetrics        bool `conf:"disallow_metrics"`
		MetricsOnly            bool `conf:"metrics_only"`
	} `conf:"telemetry"`
	Profiling struct {
		Unauthenticated bool `conf:"unauthenticated_pprof_access"`
		InFlight        bool `conf:"unauthenticated_in_flight_request_access"`
	} `conf:"profiling"`
	InFlight struct {
		Unauthenticated bool `conf:"unauthenticated_in_flight_requests_access"`
	} `conf:"inflight_requests_logging"`
}

// KES says what a listener "kes" serves.
type KES struct {
	Mount          string `conf:"mount"`     // of the type kes; default "kes"
	Namespace      string `conf:"namespace"` // that it is in; default the root
	ProxyIDs       Names  `conf:"tls_proxy_identities"`
	ProxyIDsHeader string `conf:"tls_proxy_cert_header"` // default X-Tls-Client-Cert
	API            Calls  `conf:"api"`
}

// Calls are settings of single calls of KES's API, by their paths as KES has them.
type Calls map[string]Call

// A Call is what is set of one.
type Call struct {
	Pos      source.Pos
	Timeout  time.Duration `conf:"timeout"` // 0 is the call's own
	SkipAuth bool          `conf:"skip_auth"`
}

// SetConfig implements source.Setter.
func (c *Calls) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		in := Call{Pos: b.Pos}
		if err := d.Decode(b.Body, &in, "api "+quote(b.Label)); err != nil {
			return err
		}
		if *c == nil {
			*c = Calls{}
		}
		(*c)[b.Label] = in
	}
	return nil
}

// Free reports whether some call needs no client certificate.
func (c Calls) Free() bool {
	for _, one := range c {
		if one.SkipAuth {
			return true
		}
	}
	return false
}

// check refuses what would leave keys to everybody: whoever uses one is judged by the
// mount's policies.
func (c Calls) check() error {
	for path, one := range c {
		switch path {
		case "/version", "/v1/ready", "/v1/status", "/v1/metrics", "/v1/api":
		default:
			if one.SkipAuth {
				return source.Errorf(one.Pos, "api %q: skip_auth is for /v1/ready, /v1/status, /v1/metrics and /v1/api only", path)
			}
		}
	}
	return nil
}

// ListenerTLS are the settings of TLS.
type ListenerTLS struct {
	TLSDisable       bool   `conf:"tls_disable"`
	TLSCertFile      string `conf:"tls_cert_file"`
	TLSKeyFile       string `conf:"tls_key_file"`
	TLSMinVersion    string `conf:"tls_min_version"`
	TLSMaxVersion    string `conf:"tls_max_version"`
	TLSCipherSuites  Names  `conf:"tls_cipher_suites"`
	TLSPreferServer  bool   `conf:"tls_prefer_server_cipher_suites"` // Go decides by itself
	TLSRequireClient bool   `conf:"tls_require_and_verify_client_cert"`
	TLSClientCAFile  string `conf:"tls_client_ca_file"`
	TLSDisableClient bool   `conf:"tls_disable_client_certs"`
}

// ListenerHTTP are bounds in time.
type ListenerHTTP struct {
	ReadHeaderTimeout *time.Duration `conf:"http_read_header_timeout"` // 10s
	ReadTimeout       *time.Duration `conf:"http_read_timeout"`        // 30s
	WriteTimeout      *time.Duration `conf:"http_write_timeout"`       // 0
	IdleTimeout       *time.Duration `conf:"http_idle_timeout"`        // 5m
}

// Proxies says whose word about the client's address counts.
type Proxies struct {
	ForwardedAddrs          Names  `conf:"x_forwarded_for_authorized_addrs"`
	ForwardedHopSkips       int    `conf:"x_forwarded_for_hop_skips"`
	ForwardedRejectAbsent   *bool  `conf:"x_forwarded_for_reject_not_present"`    // true
	ForwardedRejectStranger *bool  `conf:"x_forwarded_for_reject_not_authorized"` // true
	ForwardedCertHeader     string `conf:"x_forwarded_for_client_cert_header"`
	ForwardedCertDecoders   string `conf:"x_forwarded_for_client_cert_header_decoders"`
	ProxyBehavior           string `conf:"proxy_protocol_behavior"`
	ProxyAddrs              Names  `conf:"proxy_protocol_authorized_addrs"`
}

// A Socket says who may use a unix socket.
type Socket struct {
	SocketMode  string `conf:"socket_mode"`
	SocketUser  string `conf:"socket_user"`
	SocketGroup string `conf:"socket_group"`
}

// ListenerKept are settings that are read and shown; what they need does not
// exist yet.
type ListenerKept struct {
	CORSEnabled         bool         `conf:"cors_enabled"`
	CORSOrigins         Names        `conf:"cors_allowed_origins"`
	CORSHeaders         Names        `conf:"cors_allowed_headers"`
	RedactAddresses     bool         `conf:"redact_addresses"`
	RedactClusterName   bool         `conf:"redact_cluster_name"`
	RedactVersion       bool         `conf:"redact_version"`
	DisableReplication  bool         `conf:"disable_replication_status_endpoints"`
	DisableLimiter      bool         `conf:"disable_request_limiter"`
	DisableRekey        bool         `conf:"disable_unauthed_rekey_endpoints"`
	DisableGenerateRoot bool         `conf:"disable_unauthed_generate_root_endpoints"`
	MaxJSONDepth        int64        `conf:"max_json_depth"`
	MaxJSONText         int64        `conf:"max_json_string_value_length"`
	MaxJSONMembers      int64        `conf:"max_json_object_entry_count"`
	MaxJSONElements     int64        `conf:"max_json_array_element_count"`
	MaxToken            int64        `conf:"max_token_header_size"`
	AgentAPI            source.Value `conf:"agent_api"`
	ProxyAPI            source.Value `conf:"proxy_api"`
}

// Names is a list, or text with commas.
type Names []string

// SetConfig implements source.Setter.
func (n *Names) SetConfig(it source.Item, _ *source.Decoder) error {
	list, err := source.Strings(it)
	*n = list
	return err
}

// Headers are extra headers by status: "default", "2xx" or "200".
type Headers map[string]map[string][]string

// SetConfig implements source.Setter: a block of blocks, or of lists of one.
func (h *Headers) SetConfig(it source.Item, _ *source.Decoder) error {
	if *h == nil {
		*h = Headers{}
	}
	for _, e := range members(it.Value) {
		if !isStatus(e.Key) {
			return source.Errorf(e.Pos, `custom_response_headers are set by "default", a class such as "2xx" or a status such as "404", not %q`, e.Key)
		}
		to := map[string][]string{}
		for _, v := range members(e.Value) {
			if v.Value.Kind == source.List {
				list, err := source.Strings(v)
				if err != nil {
					return err
				}
				to[v.Key] = list
				continue
			}
			to[v.Key] = []string{v.Value.Text}
		}
		(*h)[e.Key] = to
	}
	return nil
}

// members are the items of a block, or of the blocks of a list.
func members(v source.Value) []source.Item {
	items := v.Items
	for _, e := range v.List {
		items = append(items, e.Items...)
	}
	return items
}

func isStatus(key string) bool {
	if key == "default" {
		return true
	}
	if len(key) != 3 || key[0] < '1' || key[0] > '5' {
		return false
	}
	if key[1:] == "xx" {
		return true
	}
	_, err := strconv.Atoi(key)
	return err == nil
}

// Listeners are the listener stanzas, in their order.
type Listeners []Listener

// SetConfig implements source.Setter.
func (l *Listeners) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		in := Listener{Pos: b.Pos, Type: strings.ToLower(b.Label), Raw: rawMap(b.Body)}
		body := b.Body
		body.Items = slices.DeleteFunc(slices.Clone(body.Items), func(it source.Item) bool { return it.Key == "type" })
		if err := d.Decode(body, &in, in.Name()); err != nil {
			return err
		}
		switch {
		case in.Address != "":
		case in.Type == "tcp":
			in.Address = "127.0.0.1:8200"
		case in.Type == "kes":
			in.Address = "0.0.0.0:7373"
		}
		*l = append(*l, in)
	}
	return nil
}

// Name calls the listener in messages.
func (l *Listener) Name() string { return "listener " + quote(l.Type) }

// TLS reports whether the listener speaks TLS.
func (l *Listener) TLS() bool { return l.Type != "unix" && !l.TLSDisable }

func (l *Listener) check() error {
	switch l.Type {
	case "tcp":
	case "unix":
		if l.Address == "" {
			return source.Errorf(l.Pos, `listener "unix" needs an address: the path of its socket`)
		}
		return nil
	case "kes":
		if l.TLSDisable || l.TLSDisableClient {
			return source.Errorf(l.Pos, `listener "kes" needs TLS with clients' certificates: they say who asks`)
		}
		l.Mount = strings.Trim(l.Mount, "/")
		if l.Mount == "" {
			l.Mount = "kes"
		}
		if err := l.API.check(); err != nil {
			return err
		}
	default:
		return source.Errorf(l.Pos, "there is no listener %q; there are tcp, unix and kes", l.Type)
	}
	if l.ChrootNamespace != "" && strings.Trim(l.ChrootNamespace, "/") != "root" {
		return source.Errorf(l.Pos, "chroot_namespace comes with a later version of arca, together with namespaces")
	}
	if !l.TLSDisable {
		return l.checkTLS()
	}
	return nil
}

func (l *Listener) checkTLS() error {
	if l.TLSCertFile == "" || l.TLSKeyFile == "" {
		return source.Errorf(l.Pos, "the listener on %s needs tls_cert_file and tls_key_file, or tls_disable = true", l.Address)
	}
	if l.TLSRequireClient && l.TLSDisableClient {
		return source.Errorf(l.Pos, "tls_require_and_verify_client_cert and tls_disable_client_certs exclude each other")
	}
	least, err := tlsVersion(l.TLSMinVersion, tls.VersionTLS12)
	if err != nil {
		return source.Errorf(l.Pos, "tls_min_version: %v", err)
	}
	most, err := tlsVersion(l.TLSMaxVersion, tls.VersionTLS13)
	if err != nil {
		return source.Errorf(l.Pos, "tls_max_version: %v", err)
	}
	if most < least {
		return source.Errorf(l.Pos, "tls_max_version is below tls_min_version")
	}
	_, err = cipherSuites(l.TLSCipherSuites)
	if err != nil {
		return source.Errorf(l.Pos, "tls_cipher_suites: %v", err)
	}
	return nil
}
