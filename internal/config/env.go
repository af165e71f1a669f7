package config

import (
	"strings"

	"arca/internal/errs"
	"arca/internal/param"
)

// Overlay lets the environment override the files, as Vault's server does.
// VAULT_LICENSE and VAULT_LICENSE_PATH are for nothing here (S2-1).
// getenv is os.Getenv.
func (c *Config) Overlay(getenv func(string) string) error {
	text := func(to *string, names ...string) {
		for _, n := range names {
			if v := getenv(n); v != "" {
				*to = v
				return
			}
		}
	}
	text(&c.APIAddr, "VAULT_API_ADDR", "VAULT_REDIRECT_ADDR", "VAULT_ADVERTISE_ADDR")
	text(&c.ClusterAddr, "VAULT_CLUSTER_ADDR")
	text(&c.ClusterName, "VAULT_CLUSTER_NAME")
	text(&c.LogLevel, "VAULT_LOG_LEVEL")
	text(&c.LogFormat, "VAULT_LOG_FORMAT")
	text(&c.LogFile, "VAULT_LOG_FILE")
	text(&c.CompatVersion, "VAULT_COMPAT_VERSION")
	text(&c.PluginTmpdir, "VAULT_PLUGIN_TMPDIR")
	for name, to := range map[string]*bool{
		"VAULT_UI":                   &c.UI,
		"VAULT_RAW_STORAGE_ENDPOINT": &c.RawStorageEndpoint,
		"VAULT_DISABLE_MLOCK":        &c.DisableMlock,
		"VAULT_DISABLE_CACHE":        &c.DisableCache,
	} {
		v := getenv(name)
		if v == "" {
			continue
		}
		b, err := parseBool(v)
		if err != nil {
			return errs.New(errs.Invalid, "the environment variable %s must be true or false, not %q", name, v)
		}
		*to = b
	}
	if v := getenv("VAULT_DEFAULT_LEASE_TTL"); v != "" {
		d, err := param.ParseDuration(v)
		if err != nil {
			return errs.New(errs.Invalid, "the environment variable VAULT_DEFAULT_LEASE_TTL: %w", err)
		}
		c.DefaultLease = d
	}
	for _, s := range []*Storage{c.Storage, c.HAStorage} {
		if s != nil {
			s.overlay(getenv)
		}
	}
	return nil
}

func (s *Storage) overlay(getenv func(string) string) {
	for option, name := range storageEnv[s.Type] {
		if v := getenv(name); v != "" {
			s.Options[option] = v
		}
	}
}

// storageEnv are the variables that count more than a stanza's options.
var storageEnv = map[string]map[string]string{
	"raft":       {"node_id": "VAULT_RAFT_NODE_ID", "path": "VAULT_RAFT_PATH"},
	"postgresql": {"connection_url": "VAULT_PG_CONNECTION_URL"},
	"s3":         {"bucket": "AWS_S3_BUCKET", "endpoint": "AWS_S3_ENDPOINT"},
	"etcd":       {"address": "ETCD_ADDR", "username": "ETCD_USERNAME", "password": "ETCD_PASSWORD"},
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "1", "t", "true", "yes", "on":
		return true, nil
	case "0", "f", "false", "no", "off":
		return false, nil
	}
	return false, errs.New(errs.Invalid, "%q is neither true nor false", v)
}
