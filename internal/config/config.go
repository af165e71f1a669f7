// Package config is the server's configuration: files in HCL or JSON, the
// environment and flags, checked and brought together into a Config.
//
// The keys are those that Vault documents
// (https://developer.hashicorp.com/vault/docs/configuration). A key that this
// version does not act on yet is read and kept, so that a file made for Vault
// starts the server; an unknown one is a warning with a guess of what was
// meant. Of several files the later one wins; listeners, seals and audit
// devices add up.
package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/config/source"
	"arca/internal/errs"
)

// A Config is what the files, environment and flags say, together. The zero
// value is the configuration of an empty file.
type Config struct {
	Storage   *Storage `conf:"storage,backend"`
	HAStorage *Storage `conf:"ha_storage,ha_backend"`
	// Destination is where a migration takes the storage while the server runs; nil for nowhere.
	Destination *Storage  `conf:"storage_destination"`
	Listeners   Listeners `conf:"listener"`
	Seals       Seals     `conf:"seal,kms,hsm"`
	Audits      Audits    `conf:"audit"`
	Telemetry   Telemetry `conf:"telemetry"`
	Lockouts    Lockouts  `conf:"user_lockout"`
	// Registration says whom to tell where this server is and how it is; nil for nobody.
	Registration *Registration `conf:"service_registration"`

	Node
	TTL
	Logging
	Memory
	Plugins
	Kept
}

// A Node says who this node is, and what it offers.
type Node struct {
	APIAddr               string `conf:"api_addr,redirect_addr,advertise_addr"`
	ClusterAddr           string `conf:"cluster_addr"`
	ClusterName           string `conf:"cluster_name"`
	DisableClustering     bool   `conf:"disable_clustering"`
	CompatVersion         string `conf:"compat_version"` // the Vault version to report
	UI                    bool   `conf:"ui"`
	RawStorageEndpoint    bool   `conf:"raw_storage_endpoint"`
	IntrospectionEndpoint bool   `conf:"introspection_endpoint"`
	HostnameHeader        bool   `conf:"enable_response_header_hostname"`
	RaftNodeIDHeader      bool   `conf:"enable_response_header_raft_node_id"`
	PIDFile               string `conf:"pid_file"`
}

// TTL holds the system's TTLs and the bound on a request. 0 is the default.
type TTL struct {
	DefaultLease      time.Duration `conf:"default_lease_ttl"`
	MaxLease          time.Duration `conf:"max_lease_ttl"`
	DefaultMaxRequest time.Duration `conf:"default_max_request_duration"`
}

// Logging says what is logged, how and where.
type Logging struct {
	LogLevel         string        `conf:"log_level"`
	LogFormat        string        `conf:"log_format"`
	LogFile          string        `conf:"log_file"`
	LogRotateAfter   time.Duration `conf:"log_rotate_duration"`
	LogRotateBytes   int64         `conf:"log_rotate_bytes"`
	LogRotateKeep    int           `conf:"log_rotate_max_files"`
	LogRequestsLevel string        `conf:"log_requests_level"`
}

// Memory says what is kept in memory, and how.
type Memory struct {
	DisableMlock bool `conf:"disable_mlock"`
	DisableCache bool `conf:"disable_cache"`
	CacheSize    int  `conf:"cache_size"`
}

// Plugins says where external plugins are.
type Plugins struct {
	PluginDirectory   string `conf:"plugin_directory"`
	PluginTmpdir      string `conf:"plugin_tmpdir"`
	PluginUID         int    `conf:"plugin_file_uid"`
	PluginPermissions string `conf:"plugin_file_permissions"`
}

// Kept are settings that are read and shown, and change nothing here: what
// they switch off does not exist, or its time has not come.
type Kept struct {
	DisablePerfStandby  bool         `conf:"disable_performance_standby"`
	DisableSealwrap     bool         `conf:"disable_sealwrap"`
	DisableIndexing     bool         `conf:"disable_indexing"`
	DisablePrintable    bool         `conf:"disable_printable_check"`
	DetectDeadlocks     string       `conf:"detect_deadlocks"`
	ImpreciseLease      bool         `conf:"imprecise_lease_role_tracking"`
	Experiments         []string     `conf:"experiments"`
	AdministrativePath  string       `conf:"administrative_namespace_path"`
	ClusterCiphers      string       `conf:"cluster_cipher_suites"`
	LicensePath         string       `conf:"license_path"`
	EnablePostUnseal    bool         `conf:"enable_post_unseal_trace"`
	PostUnsealDir       string       `conf:"post_unseal_trace_directory"`
	AllowAuditPrefixing bool         `conf:"allow_audit_log_prefixing"`
	UnsafeAuditCreation bool         `conf:"unsafe_allow_api_audit_creation"`
	EnableMultiseal     bool         `conf:"enable_multiseal"`
	Entropy             source.Value `conf:"entropy"`
	Sentinel            source.Value `conf:"sentinel"`
	Reporting           source.Value `conf:"reporting"`
	LicenseEntitlement  source.Value `conf:"license_entitlement"`
	KMSLibraries        KMSLibraries `conf:"kms_library"`
	AdaptiveOverload    source.Value `conf:"adaptive_overload_protection"`
	RequestLimiter      source.Value `conf:"request_limiter"`
	Observations        source.Value `conf:"observations"`
}

// A Storage is a storage stanza.
type Storage struct {
	source.Pos
	Type    string
	Options map[string]string
	// RetryJoin are the blocks of that name in a raft stanza.
	RetryJoin []map[string]string
}

// SetConfig implements source.Setter.
func (s *Storage) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	if len(blocks) != 1 {
		return source.Errorf(it.Pos, "%s must name one type of storage, not %d", it.Key, len(blocks))
	}
	b := blocks[0]
	*s = Storage{Pos: b.Pos, Type: b.Label, Options: map[string]string{}}
	for _, o := range b.Body.Items {
		s.known(o, d)
		if o.Key == "retry_join" {
			if err := s.join(o); err != nil {
				return err
			}
			continue
		}
		switch o.Value.Kind {
		case source.List, source.Object:
			if o.Key == "autopilot" || o.Key == "seals" {
				continue // the cluster's own
			}
			return source.Errorf(o.Value.Pos, "%s of storage %q must be a single value, not %s", o.Key, s.Type, o.Value.Kind)
		case source.Null, source.String, source.Number, source.Bool:
		}
		s.Options[o.Key] = o.Value.Text
	}
	return nil
}

// storageKeys are the options of the storages that this version has. Those of
// the others are not looked at.
var storageKeys = map[string][]string{
	"inmem": {"type"},
	"file":  {"type", "path"},
	"raft": {
		"type", "path", "node_id", "performance_multiplier", "trailing_logs", "snapshot_threshold", "snapshot_interval",
		"retry_join", "retry_join_as_non_voter", "max_entry_size", "max_mount_and_namespace_table_entry_size",
		"autopilot_reconcile_interval", "autopilot_update_interval", "autopilot_upgrade_version", "autopilot_redundancy_zone",
		"autopilot", "raft_wal", "raft_log_verifier_enabled", "raft_log_verification_interval", "disable_clustering",
		"log_store_type", "heartbeat_interval", "max_parallel",
	},
	"postgresql": {
		"type", "connection_url", "table", "max_idle_connections", "max_parallel", "ha_enabled", "ha_table", "skip_create_table",
		"max_connect_retries", "auth_mode", "disable_clustering",
	},
	"mysql": {
		"type", "address", "username", "password", "database", "table", "tls_ca_file", "plaintext_credential_transmission",
		"plaintext_connection_allowed", "max_parallel", "max_idle_connections", "max_connection_lifetime", "ha_enabled", "lock_table", "disable_clustering",
	},
	"s3": {
		"type", "bucket", "region", "endpoint", "access_key", "secret_key", "session_token", "path", "max_parallel", "s3_force_path_style",
		"disable_ssl", "kms_key_id", "disable_clustering",
	},
	"consul": {
		"type", "address", "scheme", "path", "token", "session_ttl", "lock_wait_time", "consistency_mode", "max_parallel", "tls_ca_file", "tls_cert_file",
		"tls_key_file", "tls_min_version", "tls_skip_verify", "ha_enabled", "disable_clustering",
		"check_timeout", "disable_registration", "service", "service_tags", "service_address",
	},
	"etcd": {
		"type", "address", "path", "username", "password", "tls_ca_file", "tls_cert_file", "tls_key_file", "etcd_api", "discovery_srv",
		"discovery_srv_name", "sync", "request_timeout", "lock_timeout", "max_receive_size", "ha_enabled", "disable_clustering",
	},
}

func (s *Storage) known(o source.Item, d *source.Decoder) {
	keys, ok := storageKeys[s.Type]
	if !ok || slices.Contains(keys, o.Key) {
		return
	}
	text := "unknown key " + quote(o.Key) + " in storage " + quote(s.Type)
	if near := source.Nearest(o.Key, keys); near != "" {
		text += "; did you mean " + quote(near) + "?"
	}
	d.Warn(o.Pos, text)
}

func (s *Storage) join(it source.Item) error {
	list := []source.Value{it.Value}
	if it.Value.Kind == source.List {
		list = it.Value.List
	}
	for _, v := range list {
		m := map[string]string{}
		for _, o := range v.Items {
			m[o.Key] = o.Value.Text
		}
		s.RetryJoin = append(s.RetryJoin, m)
	}
	return nil
}

// A Registration is a service_registration stanza.
type Registration struct {
	source.Pos
	Type    string
	Options map[string]string
	Meta    map[string]string // service_meta
}

// registrationKeys are the options of both kinds.
var registrationKeys = map[string][]string{
	"kubernetes": {"namespace", "pod_name", "service_account_path"},
	"consul": {
		"address", "check_timeout", "disable_registration", "scheme", "service", "service_tags", "service_meta", "service_address", "token",
		"tls_ca_file", "tls_cert_file", "tls_key_file", "tls_min_version", "tls_skip_verify",
	},
}

// SetConfig implements source.Setter.
func (r *Registration) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	if len(blocks) != 1 {
		return source.Errorf(it.Pos, "%s must name one service, not %d", it.Key, len(blocks))
	}
	b := blocks[0]
	*r = Registration{Pos: b.Pos, Type: b.Label, Options: map[string]string{}, Meta: map[string]string{}}
	keys := registrationKeys[r.Type]
	for _, o := range b.Body.Items {
		if keys != nil && !slices.Contains(keys, o.Key) {
			text := "unknown key " + quote(o.Key) + " in service_registration " + quote(r.Type)
			if near := source.Nearest(o.Key, keys); near != "" {
				text += "; did you mean " + quote(near) + "?"
			}
			d.Warn(o.Pos, text)
			continue
		}
		if o.Key == "service_meta" {
			for _, m := range members(o.Value) {
				r.Meta[m.Key] = m.Value.Text
			}
			continue
		}
		if o.Value.Kind == source.List || o.Value.Kind == source.Object {
			return source.Errorf(o.Value.Pos, "%s of service_registration %q must be a single value, not %s", o.Key, r.Type, o.Value.Kind)
		}
		r.Options[o.Key] = o.Value.Text
	}
	return nil
}

// A Seal is a seal stanza.
type Seal struct {
	source.Pos
	Type     string
	Disabled bool
	Options  map[string]string
}

// Seals are the seal stanzas, in their order.
type Seals []Seal

// sealKeys are those of every seal; sealOptions those of each type. A type that is not here
// is refused when it is opened.
var (
	sealKeys    = []string{"disabled", "name", "priority", "type"}
	sealOptions = map[string][]string{
		"shamir": nil,
		"static": {"current_key", "current_key_id", "previous_key", "previous_key_id"},
		"transit": {
			"address", "disable_renewal", "key_name", "mount_path", "namespace", "tls_ca_cert", "tls_client_cert", "tls_client_key", "tls_server_name",
			"tls_skip_verify", "token",
		},
		"awskms":        {"access_key", "endpoint", "kms_key_id", "region", "secret_key", "session_token"},
		"gcpckms":       {"credentials", "crypto_key", "endpoint", "key_ring", "project", "region"},
		"azurekeyvault": {"client_id", "client_secret", "endpoint", "environment", "key_name", "resource", "tenant_id", "vault_name"},
		"ocikms":        {"auth_type_api_key", "crypto_endpoint", "key_id", "management_endpoint"},
		"alicloudkms":   {"access_key", "domain", "kms_key_id", "region", "secret_key", "security_token"},
		"kmip":          {"ca_cert", "client_cert", "client_key", "encrypt_alg", "endpoint", "kms_key_id", "server_name", "timeout", "tls12_ciphers"},
		"pkcs11":        {"generate_key", "key_id", "key_label", "lib", "mechanism", "pin", "rsa_oaep_hash", "slot", "token_label"},
	}
	// sealIgnored are options of Vault's documentation that change nothing here.
	sealIgnored = map[string][]string{
		"transit": {"key_id_prefix"},
		"awskms": {
			"disallow_env_vars", "role_arn", "role_session_name", "shared_creds_file", "shared_creds_filename", "shared_creds_profile", "web_identity_token_file",
		},
		"azurekeyvault": {"disallow_env_vars"},
		"gcpckms":       {"disallow_env_vars"},
		"ocikms":        {"disallow_env_vars"},
		"alicloudkms":   {"disallow_env_vars"},
		"pkcs11": {
			"default_hmac_key_label", "default_key_label", "disable_software_encryption", "force_rw_session", "hmac_key_id", "hmac_key_label",
			"hmac_mechanism", "max_parallel", "regenerate_key", "rsa_encrypt_local",
		},
	}
)

// SetConfig implements source.Setter.
func (s *Seals) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		seal := Seal{Pos: b.Pos, Type: b.Label, Options: map[string]string{}}
		where := `seal "` + b.Label + `"`
		known, ok := sealOptions[b.Label]
		for _, o := range b.Body.Items {
			switch {
			case o.Key == "disabled":
				if seal.Disabled, err = source.Truth(o); err != nil {
					return err
				}
			case slices.Contains(sealIgnored[b.Label], o.Key):
				d.Warn(o.Pos, strconv.Quote(o.Key)+" in "+where+" is not supported and changes nothing")
			case ok && !slices.Contains(sealKeys, o.Key) && !slices.Contains(known, o.Key):
				d.Unknown(o, slices.Concat(sealKeys, known), where)
			}
			seal.Options[o.Key] = o.Value.Text
		}
		*s = append(*s, seal)
	}
	return nil
}

// An Audit is a device that the file declares: audit "file" { … }.
type Audit struct {
	source.Pos
	Type, Path, Description string
	Local                   bool
	Options                 map[string]string
}

// Audits are the audit stanzas, in their order.
type Audits []Audit

// SetConfig implements source.Setter. The path is the second label, or the key
// path, or the type.
func (a *Audits) SetConfig(it source.Item, d *source.Decoder) error {
	path := ""
	if len(it.Labels) == 2 {
		path, it.Labels = it.Labels[1], it.Labels[:1]
	}
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		in := struct {
			Type        string            `conf:"type"`
			Path        string            `conf:"path"`
			Description string            `conf:"description"`
			Local       bool              `conf:"local"`
			Options     map[string]string `conf:"options"`
		}{Type: b.Label, Path: path}
		if err := d.Decode(b.Body, &in, `audit "`+b.Label+`"`); err != nil {
			return err
		}
		if in.Path == "" {
			in.Path = in.Type
		}
		*a = append(*a, Audit{b.Pos, in.Type, in.Path, in.Description, in.Local, in.Options})
	}
	return nil
}

// A Lockout is a user_lockout stanza: what happens to users who give wrong
// passwords. Type is all, userpass, ldap or approle.
type Lockout struct {
	Type         string
	Threshold    int           `conf:"lockout_threshold"`
	Duration     time.Duration `conf:"lockout_duration"`
	CounterReset time.Duration `conf:"lockout_counter_reset"`
	Disable      bool          `conf:"disable_lockout"`
}

// Lockouts are the user_lockout stanzas, in their order.
type Lockouts []Lockout

// SetConfig implements source.Setter.
func (l *Lockouts) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		out := Lockout{Type: b.Label, Threshold: 5, Duration: 15 * time.Minute, CounterReset: 15 * time.Minute}
		switch out.Type {
		case "all", "userpass", "ldap", "approle":
		default:
			return source.Errorf(b.Pos, "user_lockout is for all, userpass, ldap or approle, not %q", out.Type)
		}
		if err := d.Decode(b.Body, &out, `user_lockout "`+b.Label+`"`); err != nil {
			return err
		}
		*l = append(*l, out)
	}
	return nil
}

// Check reports what no server could start with.
func (c *Config) Check() error {
	if c.Storage == nil {
		return errs.New(errs.Invalid, `no storage is configured; add, for example: storage "file" { path = "/var/lib/vault" }`)
	}
	if len(c.Listeners) == 0 {
		return errs.New(errs.Invalid, `no listener is configured; add, for example: listener "tcp" { address = "127.0.0.1:8200" }`)
	}
	if err := c.Storage.check(); err != nil {
		return err
	}
	if err := c.checkHA(); err != nil {
		return err
	}
	if c.Destination != nil {
		if err := c.Destination.check(); err != nil {
			return err
		}
	}
	if err := c.Telemetry.check(); err != nil {
		return err
	}
	for i := range c.Listeners {
		if err := c.Listeners[i].check(); err != nil {
			return err
		}
	}
	def, longest := c.DefaultLease, c.MaxLease
	if def < 0 || longest < 0 {
		return errs.New(errs.Invalid, "default_lease_ttl and max_lease_ttl cannot be negative")
	}
	if longest > 0 && def > longest {
		return errs.New(errs.Invalid, "default_lease_ttl (%s) is greater than max_lease_ttl (%s)", def, longest)
	}
	return nil
}

// laterStorage are the types of storage that are to come.
var laterStorage = []string{
	"aerospike", "alicloudoss", "azure", "cassandra", "cockroachdb", "couchdb", "dynamodb",
	"foundationdb", "gcs", "manta", "mssql", "oci", "spanner", "swift", "zookeeper",
}

// storageNames are the types of storage that there are.
const storageNames = "file, raft, inmem, postgresql, mysql, etcd, consul and s3"

// shareable are those that have a lock for nodes that share data.
var shareable = []string{"postgresql", "mysql", "etcd", "consul"}

// checkHA reports what is wrong with an ha_storage stanza.
func (c *Config) checkHA() error {
	s, data := c.HAStorage, c.Storage
	if s == nil {
		return nil
	}
	if !slices.Contains(shareable, data.Type) && data.Type != "s3" {
		return source.Errorf(s.Pos, "ha_storage cannot be used with storage %q, which several servers do not share through a lock; it is for %s",
			data.Type, strings.Join(shareable, ", "))
	}
	if !slices.Contains(shareable, s.Type) {
		return source.Errorf(s.Pos, "ha_storage %q has no lock that servers could share; there are %s", s.Type, strings.Join(shareable, ", "))
	}
	return s.check()
}

func (s *Storage) check() error {
	switch s.Type {
	case "inmem", "inmem_ha", "inmem_transactional", "inmem_transactional_ha":
		return nil
	case "file", "raft":
		if s.Path() == "" {
			return source.Errorf(s.Pos, `storage %q needs a path, as in path = "/var/lib/vault"`, s.Type)
		}
		return nil
	case "postgresql", "mysql", "etcd", "consul", "s3":
		return nil // its driver checks the rest, where it connects
	}
	for _, t := range laterStorage {
		if t == s.Type {
			return source.Errorf(s.Pos, "storage %q comes with a later version of arca; there are "+storageNames, s.Type)
		}
	}
	text := "there is no storage " + quote(s.Type)
	if near := source.Nearest(s.Type, append(strings.Split(strings.ReplaceAll(storageNames, " and ", ", "), ", "), laterStorage...)); near != "" {
		text += "; did you mean " + quote(near) + "?"
	}
	return source.Errorf(s.Pos, "%s", text)
}

// Path is the folder of a storage on disk, "" for one in memory.
func (s *Storage) Path() string { return s.Options["path"] }
