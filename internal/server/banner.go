package server

import (
	"cmp"
	"fmt"
	"runtime"
	"sort"
	"strings"

	"arca/internal/api"
	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/mlock"
	"arca/internal/version"
)

// bannerWidth is where the values of the table begin.
const bannerWidth = 24

// banner writes what the server runs with. Scripts look for some of its lines
// ("Api Address: …", "Storage: …"); they are as Vault writes them.
func (n *node) banner(warnings []source.Warning) {
	rows := [][2]string{
		{"Api Address", n.apiAddr()},
		{"Cgo", "disabled"},
		{"Cluster Address", n.clusterAddr()},
		{"Environment Variables", n.variables()},
		{"Go Version", runtime.Version()},
		{"Log Level", cmp.Or(strings.ToLower(n.cfg.LogLevel), "info")},
		{"Mlock", fmt.Sprintf("supported: %v, enabled: %v", mlock.Supported, !n.cfg.DisableMlock)},
		{"Recovery Mode", "false"},
		{"Storage", n.cfg.Storage.Type},
		{"Version", "Vault v" + version.Compat(n.cfg.CompatVersion) + " (arca " + version.Arca + ")"},
	}
	for i := range n.cfg.Listeners {
		rows = append(rows, [2]string{fmt.Sprintf("Listener %d", i+1), n.describe(&n.cfg.Listeners[i])})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
	out := n.env.Out
	fmt.Fprint(out, "==> Vault server configuration:\n\n")
	for _, r := range rows {
		if r[1] != "" {
			fmt.Fprintf(out, "%*s: %s\n", bannerWidth, r[0], r[1])
		}
	}
	fmt.Fprintln(out)
	n.warn(warnings)
	if n.dev != nil {
		n.dev.banner(out, n.apiAddr())
	}
}

func (n *node) describe(l *config.Listener) string {
	parts := []string{fmt.Sprintf("addr: %q", l.Address)}
	if l.ClusterAddress != "" {
		parts = append(parts, fmt.Sprintf("cluster address: %q", l.ClusterAddress))
	}
	duration, size := api.DefaultMaxRequestDuration, int64(api.DefaultMaxRequestBytes)
	if n.cfg.DefaultMaxRequest > 0 {
		duration = n.cfg.DefaultMaxRequest
	}
	if l.MaxRequestDuration != nil && *l.MaxRequestDuration != 0 {
		duration = *l.MaxRequestDuration
	}
	if l.MaxRequestSize != nil && *l.MaxRequestSize != 0 {
		size = *l.MaxRequestSize
	}
	tls := "disabled"
	if l.TLS() {
		tls = "enabled"
	}
	parts = append(parts, fmt.Sprintf(`max_request_duration: "%s", max_request_size: "%d", tls: %q`, duration, size, tls))
	return l.Type + " (" + strings.Join(parts, ", ") + ")"
}

// variables names the variables of the environment that servers read and that
// are set. Their values may be secret.
func (n *node) variables() string {
	var out []string
	for _, name := range []string{
		"GOGC", "GOMAXPROCS", "GOMEMLIMIT", "VAULT_API_ADDR", "VAULT_CLUSTER_ADDR", "VAULT_CLUSTER_NAME",
		"VAULT_COMPAT_VERSION", "VAULT_DEFAULT_LEASE_TTL", "VAULT_DEV_LISTEN_ADDRESS", "VAULT_DEV_ROOT_TOKEN_ID",
		"VAULT_DISABLE_CACHE", "VAULT_DISABLE_MLOCK", "VAULT_LICENSE", "VAULT_LICENSE_PATH", "VAULT_LOG_FILE",
		"VAULT_LOG_FORMAT", "VAULT_LOG_LEVEL", "VAULT_RAFT_NODE_ID", "VAULT_RAFT_PATH", "VAULT_RAW_STORAGE_ENDPOINT",
		"VAULT_REDIRECT_ADDR", "VAULT_UI",
	} {
		if n.env.Getenv(name) != "" {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}
