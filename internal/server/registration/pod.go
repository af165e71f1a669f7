package registration

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/server/kubernetes"
)

// pod is the Kubernetes pod that the server runs in. Its labels are Vault's.
type pod struct {
	client  *kubernetes.Client
	path    string
	version string
}

// Environment variables of Vault, which count more than the stanza.
const (
	envNamespace = "VAULT_K8S_NAMESPACE"
	envPod       = "VAULT_K8S_POD_NAME"
)

func newPod(cfg *Config) (*pod, error) {
	o := cfg.Stanza.Options
	namespace, name := cfg.Getenv(envNamespace), cfg.Getenv(envPod)
	if namespace == "" {
		namespace = o["namespace"]
	}
	if name == "" {
		name = o["pod_name"]
	}
	if namespace == "" || name == "" {
		return nil, errs.New(errs.Invalid, "namespace and pod_name, or the environment's %s and %s, must be set", envNamespace, envPod)
	}
	c, err := kubernetes.InCluster(o["service_account_path"], cfg.Getenv)
	if err != nil {
		return nil, err
	}
	return &pod{c, "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods/" + url.PathEscape(name), label(cfg.Version)}, nil
}

// label gives a version the form that a label's value may have: at most 63 letters, digits, and . _ - between them.
func label(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, text)
	return strings.Trim(text[:min(len(text), 63)], "._-")
}

func (p *pod) tell(ctx context.Context, s State, _ bool) error {
	return p.patch(ctx, map[string]string{
		"vault-active": strconv.FormatBool(s.Active), "vault-sealed": strconv.FormatBool(s.Sealed),
		"vault-initialized":  strconv.FormatBool(s.Initialised),
		"vault-perf-standby": "false", // as sys/health says: our standbys are standbys to clients
		"vault-version":      p.version,
	})
}

func (p *pod) end(ctx context.Context) error {
	defer p.client.Close()
	return p.patch(ctx, map[string]string{"vault-active": "false", "vault-sealed": "true", "vault-perf-standby": "false"})
}

func (p *pod) every() time.Duration { return 0 }

func (p *pod) patch(ctx context.Context, labels map[string]string) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	return p.client.Do(ctx, http.MethodPatch, p.path, "application/merge-patch+json", body, nil)
}
