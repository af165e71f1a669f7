package config

import (
	"strconv"
	"strings"
	"time"

	"arca/internal/config/source"
)

// rawMap is a block as plain values, for display.
func rawMap(v source.Value) map[string]any {
	out := map[string]any{}
	for _, it := range members(v) {
		out[it.Key] = raw(it.Value)
	}
	return out
}

func raw(v source.Value) any {
	switch v.Kind {
	case source.Null:
		return nil
	case source.Bool:
		return v.Text == "true"
	case source.Number:
		if n, err := strconv.ParseInt(v.Text, 0, 64); err == nil {
			return n
		}
		f, _ := strconv.ParseFloat(v.Text, 64) // the parser checked it
		return f
	case source.List:
		out := make([]any, 0, len(v.List))
		for _, e := range v.List {
			out = append(out, raw(e))
		}
		return out
	case source.Object:
		return rawMap(v)
	case source.String:
	}
	return v.Text
}

// Sanitized is the configuration without secrets, in the form of
// sys/config/state/sanitized: of storage and seals only the type is shown, as
// their options may hold passwords.
func (c *Config) Sanitized() map[string]any {
	out := map[string]any{
		"administrative_namespace_path": c.AdministrativePath,
		"api_addr":                      c.APIAddr, "cluster_addr": c.ClusterAddr, "cluster_name": c.ClusterName,
		"cache_size": c.CacheSize, "cluster_cipher_suites": c.ClusterCiphers,
		"default_lease_ttl": secs(c.DefaultLease), "max_lease_ttl": secs(c.MaxLease),
		"default_max_request_duration": secs(c.DefaultMaxRequest), "detect_deadlocks": c.DetectDeadlocks,
		"disable_cache": c.DisableCache, "disable_clustering": c.DisableClustering, "disable_indexing": c.DisableIndexing,
		"disable_mlock": c.DisableMlock, "disable_performance_standby": c.DisablePerfStandby,
		"disable_printable_check": c.DisablePrintable, "disable_sealwrap": c.DisableSealwrap,
		"enable_response_header_hostname":     c.HostnameHeader,
		"enable_response_header_raft_node_id": c.RaftNodeIDHeader,
		"enable_ui":                           c.UI, "experiments": c.Experiments,
		"imprecise_lease_role_tracking": c.ImpreciseLease, "introspection_endpoint": c.IntrospectionEndpoint,
		"log_format": c.LogFormat, "log_level": c.LogLevel, "log_requests_level": c.LogRequestsLevel,
		"pid_file": c.PIDFile, "plugin_directory": c.PluginDirectory, "plugin_tmpdir": c.PluginTmpdir,
		"plugin_file_permissions": c.permissions(), "plugin_file_uid": c.PluginUID,
		"raw_storage_endpoint": c.RawStorageEndpoint, "compat_version": c.CompatVersion,
	}
	if c.Storage != nil {
		out["storage"] = c.Storage.sanitized(c)
	}
	if c.HAStorage != nil {
		out["ha_storage"] = c.HAStorage.sanitized(c)
	}
	if c.Destination != nil {
		out["storage_destination"] = c.Destination.sanitized(c)
	}
	if len(c.Listeners) > 0 {
		list := make([]any, 0, len(c.Listeners))
		for i := range c.Listeners {
			list = append(list, map[string]any{"type": c.Listeners[i].Type, "config": c.Listeners[i].Raw})
		}
		out["listeners"] = list
	}
	if len(c.Seals) > 0 {
		list := make([]any, 0, len(c.Seals))
		for _, s := range c.Seals {
			list = append(list, map[string]any{"type": s.Type, "disabled": s.Disabled})
		}
		out["seals"] = list
	}
	if c.Telemetry.Raw != nil {
		out["telemetry"] = c.Telemetry.sanitized()
	}
	return out
}

func (s *Storage) sanitized(c *Config) map[string]any {
	out := map[string]any{
		"type": s.Type, "cluster_addr": c.ClusterAddr, "redirect_addr": c.APIAddr, "disable_clustering": c.DisableClustering,
	}
	if s.Type == "raft" {
		out["raft"] = map[string]any{"max_entry_size": s.Options["max_entry_size"]}
	}
	return out
}

// sanitized leaves out what may be secret.
func (t *Telemetry) sanitized() map[string]any {
	out := map[string]any{}
	for k, v := range t.Raw {
		if !strings.Contains(k, "token") {
			out[k] = v
		}
	}
	return out
}

func (c *Config) permissions() int64 {
	n, _ := strconv.ParseInt(c.PluginPermissions, 8, 32) // shown only
	return n
}

func secs(d time.Duration) int64 { return int64(d / time.Second) }
