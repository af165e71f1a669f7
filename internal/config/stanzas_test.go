package config_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"arca/internal/config"
	"arca/internal/config/source"
)

func TestEveryStanza(t *testing.T) {
	t.Parallel()
	c := mustRead(t, `
cluster_name = "c" cache_size = 7 disable_cache = true disable_sealwrap = true disable_performance_standby = true
default_lease_ttl = 3600 max_lease_ttl = "2d" default_max_request_duration = "45s"
log_level = "Info" log_format = "json" log_file = "/var/log/vault/" log_rotate_duration = "1h" log_rotate_bytes = 1000
log_rotate_max_files = 3 log_requests_level = "debug" pid_file = "/run/vault.pid"
plugin_directory = "/p" plugin_file_uid = 1000 plugin_file_permissions = "0755"
raw_storage_endpoint = true introspection_endpoint = true imprecise_lease_role_tracking = true experiments = ["a", "b"]
enable_response_header_hostname = true enable_response_header_raft_node_id = true compat_version = "1.19.0+ent"
storage "raft" {
  path = "/d"
  performance_multiplier = 1
  retry_join { leader_api_addr = "https://a:8200" }
  retry_join { leader_api_addr = "https://b:8200" leader_tls_servername = "b" }
}
seal "shamir" {}
service_registration "kubernetes" { namespace = "x" }
entropy "seal" { mode = "augmentation" }
sentinel { additional_enabled_modules = ["http"] }
telemetry { prometheus_retention_time = "24h" disable_hostname = true dogstatsd_tags = ["a:b"] circonus_api_token = "hidden" }
user_lockout "all" { lockout_threshold = "10" lockout_duration = "10m" }
user_lockout "userpass" { disable_lockout = true }
audit "file" { options = { file_path = "/a.log" } }
audit "socket" "net" { description = "d" options { address = "x:1" } }
listener "tcp" {
  address = "127.0.0.1:8200" cluster_address = "127.0.0.1:8201" tls_disable = "true"
  max_request_size = 100 max_request_duration = "5s" require_request_header = true
  http_read_header_timeout = "1s" http_read_timeout = 2 http_write_timeout = "3s" http_idle_timeout = "4m"
  x_forwarded_for_authorized_addrs = "10.0.0.0/8, 127.0.0.1" x_forwarded_for_hop_skips = "1"
  x_forwarded_for_reject_not_present = false
  proxy_protocol_behavior = "use_always"
  tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
  telemetry { unauthenticated_metrics_access = true }
  profiling { unauthenticated_pprof_access = true }
  custom_response_headers {
    "default" = { "X-A" = ["a", "b"], "X-One" = "1" }
    "2xx" = { "X-Class" = ["2"] }
    "404" = { "X-Code" = ["404"] }
  }
}
listener "unix" { address = "/s" socket_mode = "0660" socket_user = "1" socket_group = "2" }
`)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.DefaultLease != time.Hour || c.MaxLease != 48*time.Hour || c.LogRotateAfter != time.Hour || c.LogRotateBytes != 1000 {
		t.Errorf("durations: %+v %+v", c.TTL, c.Logging)
	}
	if got := c.Storage.RetryJoin; len(got) != 2 || got[1]["leader_tls_servername"] != "b" {
		t.Errorf("retry_join %v", got)
	}
	if len(c.Lockouts) != 2 || c.Lockouts[0].Threshold != 10 || c.Lockouts[0].Duration != 10*time.Minute || !c.Lockouts[1].Disable {
		t.Errorf("user_lockout %+v", c.Lockouts)
	}
	if len(c.Audits) != 2 || c.Audits[0].Path != "file" || c.Audits[0].Options["file_path"] != "/a.log" || c.Audits[1].Path != "net" ||
		c.Audits[1].Options["address"] != "x:1" {
		t.Errorf("audit %+v", c.Audits)
	}
	l := c.Listeners[0]
	if *l.MaxRequestSize != 100 || *l.MaxRequestDuration != 5*time.Second || *l.ReadTimeout != 2*time.Second || *l.IdleTimeout != 4*time.Minute ||
		len(l.ForwardedAddrs) != 2 || l.ForwardedHopSkips != 1 || *l.ForwardedRejectAbsent || !l.Telemetry.UnauthenticatedMetrics ||
		len(l.TLSCiphers()) != 2 {
		t.Errorf("listener %+v", l)
	}
	want := config.Headers{
		"default": {"X-A": {"a", "b"}, "X-One": {"1"}}, "2xx": {"X-Class": {"2"}}, "404": {"X-Code": {"404"}},
	}
	if !reflect.DeepEqual(l.Headers, want) {
		t.Errorf("headers %v", l.Headers)
	}
}

// In JSON made from HCL, blocks stand in lists.
func TestHeadersInJSON(t *testing.T) {
	t.Parallel()
	c := mustRead(t, `{"listener":[{"tcp":[{"tls_disable":true,"custom_response_headers":[{"default":[{"X-A":["a"]}]}],"telemetry":[{"unauthenticated_metrics_access":true}]}]}]}`)
	l := c.Listeners[0]
	if !reflect.DeepEqual(l.Headers, config.Headers{"default": {"X-A": {"a"}}}) || !l.Telemetry.UnauthenticatedMetrics {
		t.Errorf("got %+v", l)
	}
}

// The form of sys/config/state/sanitized (scenario sysmisc/host-and-inflight).
func TestSanitized(t *testing.T) {
	t.Parallel()
	c := mustRead(t, `
storage "file" { path = "/secret/place" }
seal "shamir" {}
telemetry { circonus_api_token = "hidden" disable_hostname = true }
listener "tcp" { address = "127.0.0.1:8200" tls_disable = true proxy_protocol_behavior = "allow_authorized" }
max_lease_ttl = "1h"
`)
	text, err := json.Marshal(c.Sanitized())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"api_addr": "", "default_lease_ttl": 0.0, "max_lease_ttl": 3600.0, "raw_storage_endpoint": false,
		"seals":     []any{map[string]any{"type": "shamir", "disabled": false}},
		"telemetry": map[string]any{"disable_hostname": true},
		"storage":   map[string]any{"type": "file", "cluster_addr": "", "redirect_addr": "", "disable_clustering": false},
		"listeners": []any{map[string]any{"type": "tcp", "config": map[string]any{
			"address": "127.0.0.1:8200", "tls_disable": true, "proxy_protocol_behavior": "allow_authorized",
		}}},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		guideJSON, "storage \"file\" { path = /x }", "a { # }\n", `{"listener":{"tcp":[{}]}}`, "x = <<EOF\na\nEOF\n", "a = [1, \"${b}\", {c = 1}]",
		`audit "a" "b" {}`, "listener { type = \"tcp\" }",
	} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		c := &config.Config{}
		if err := c.Add("f.hcl", []byte(text), &source.Decoder{}); err != nil {
			return
		}
		_ = c.Check()
		_, _ = json.Marshal(c.Sanitized())
	})
}
