package sys

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/policy"
	"arca/internal/seal"
	"arca/internal/token"
	"arca/internal/version"
)

// stateRoutes tell and change the state of the node.
func (e *Engine) stateRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("health", e.health, engine.Always, engine.RootOnly, engine.ID("read-health-status"),
			engine.Help("Tell whether the node is initialised, sealed and active, by status code.")),
		engine.Write("seal", e.sealNode, engine.Always, engine.RootOnly, engine.ID("seal"), engine.Help("Seal the node.")),
		engine.Read("leader", e.leader, engine.Always, engine.ID("leader-status"), engine.Help("Tell which node is active.")),
		engine.Write("step-down", e.stepDown, engine.Always, engine.RootOnly, engine.ID("step-down-leader"),
			engine.Help("Let another node become active.")),
		engine.Read("ha-status", e.haStatus, engine.TopLevel, engine.RootOnly, engine.ID("ha-status"), engine.Help("List the nodes of the cluster.")),
	}
}

type healthIn struct {
	StandbyOK     string `api:"standbyok" help:"Count a standby as healthy."`
	PerfStandbyOK string `api:"perfstandbyok"`
	ActiveCode    string `api:"activecode" help:"Status code of an active node." `
	StandbyCode   string `api:"standbycode"`
	DRCode        string `api:"drsecondarycode"`
	PerfCode      string `api:"performancestandbycode"`
	SealedCode    string `api:"sealedcode"`
	UninitCode    string `api:"uninitcode"`
	HARemovedCode string `api:"haunhealthycode"`
	RemovedCode   string `api:"removedcode"`
}

// healthOut is the body of sys/health.
type healthOut struct {
	initialised, sealed bool
	cluster             seal.Cluster
	version             string
	now                 int64
}

// encode writes the members in the order of Vault. It is written by hand, as
// load balancers ask it all the time.
func (h *healthOut) encode() []byte {
	b := make([]byte, 0, 448)
	b = append(b, `{"initialized":`...)
	b = strconv.AppendBool(b, h.initialised)
	b = append(b, `,"sealed":`...)
	b = strconv.AppendBool(b, h.sealed)
	b = append(b, `,"standby":`...)
	b = strconv.AppendBool(b, h.sealed)
	b = append(b, `,"performance_standby":false,"replication_performance_mode":"`...)
	mode := "disabled"
	if h.sealed {
		mode = "unknown"
	}
	b = append(b, mode...)
	b = append(b, `","replication_dr_mode":"`...)
	b = append(b, mode...)
	b = append(b, `","server_time_utc":`...)
	b = strconv.AppendInt(b, h.now, 10)
	b = append(b, `,"version":`...)
	b = param.AppendString(b, h.version)
	if h.cluster.Name != "" {
		b = append(b, `,"cluster_name":`...)
		b = param.AppendString(b, h.cluster.Name)
		b = append(b, `,"cluster_id":`...)
		b = param.AppendString(b, h.cluster.ID)
	}
	b = append(b, `,"enterprise":true,"echo_duration_ms":0,"clock_skew_ms":0,"arca_version":`...)
	b = param.AppendString(b, version.Arca)
	return append(b, "}\n"...)
}

func (e *Engine) health(ctx context.Context, call *engine.Call, in healthIn) (*engine.Response, error) {
	out := healthOut{sealed: true, now: call.Now.Unix(), version: version.Compat(e.core.Config().CompatVersion)}
	code, text := http.StatusServiceUnavailable, in.SealedCode
	if a := e.core.Active(); a != nil {
		out.initialised, out.sealed, out.cluster = true, false, a.Cluster
		code, text = http.StatusOK, in.ActiveCode
	} else {
		initialised, err := e.seal.Initialised(ctx)
		if err != nil {
			return nil, err
		}
		out.initialised = initialised
		if !initialised {
			code, text = http.StatusNotImplemented, in.UninitCode
		}
	}
	for _, c := range [...]string{in.ActiveCode, in.StandbyCode, in.DRCode, in.PerfCode, in.SealedCode, in.UninitCode} {
		if c == "" {
			continue
		}
		if n, err := strconv.Atoi(c); err != nil || n < 100 || n > 999 {
			return nil, errs.New(errs.Invalid, "")
		}
	}
	if text != "" {
		code, _ = strconv.Atoi(text) // checked above
	}
	return &engine.Response{Raw: &engine.Raw{Status: code, Body: out.encode()}}, nil
}

// rawJSON is an answer without an envelope.
func rawJSON(code int, v any) (*engine.Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Raw: &engine.Raw{Status: code, Body: append(body, '\n')}}, nil
}

// sealNode seals for who has update and sudo on sys/seal. A sealed node is
// sealed already.
func (e *Engine) sealNode(ctx context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	if e.core.Sealed() {
		return nil, nil
	}
	if err := e.core.Authorize(ctx, call.Request, true); err != nil {
		return nil, err
	}
	call.After(func() {
		if err := e.core.Shut(); err != nil {
			e.core.Config().Log.Error("seal", "error", err)
		}
	})
	return nil, nil
}

type leaderOut struct {
	HAEnabled            bool      `json:"ha_enabled"`
	IsSelf               bool      `json:"is_self"`
	ActiveTime           time.Time `json:"active_time"`
	LeaderAddress        string    `json:"leader_address"`
	LeaderClusterAddress string    `json:"leader_cluster_address"`
	PerformanceStandby   bool      `json:"performance_standby"`
	LastRemoteWAL        int       `json:"performance_standby_last_remote_wal"`
}

func (e *Engine) leader(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return rawJSON(0, leaderOut{ActiveTime: time.Time{}})
}

func (e *Engine) stepDown(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return nil, nil // without other nodes there is nobody to step down for
}

func (e *Engine) haStatus(_ context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	cfg := e.core.Config()
	return data(map[string]any{"nodes": []map[string]any{{
		"active_node": true, "api_address": cfg.APIAddr, "cluster_address": cfg.ClusterAddr, "hostname": hostname(),
		"last_echo": nil, "version": version.Compat(cfg.CompatVersion),
	}}}), nil
}

// lookup finds a token of the call's namespace, or of one below it.
func lookup(call *engine.Call, id string) (*token.Entry, error) {
	t, err := desks(call).Tokens.Lookup(call.Tx, id, call.Now)
	return within(call, t, err)
}

// within refuses a token of another namespace than the call's and those below it
// as if there were none.
func within(call *engine.Call, t *token.Entry, err error) (*token.Entry, error) {
	if err != nil || t.NamespaceID == ns(call) {
		return t, err
	}
	n, err := desks(call).Namespaces.ByID(call.Tx, t.NamespaceID)
	if errors.Is(err, namespace.ErrNotFound) || err == nil && !strings.HasPrefix(n.Path, call.NamespacePath) {
		return nil, token.ErrBad
	}
	return t, err
}

// self is the caller's own token, wherever its namespace lies.
func self(call *engine.Call) (*token.Entry, error) {
	return desks(call).Tokens.Lookup(call.Tx, call.Request.Token, call.Now)
}

// reaches refuses to judge what a token may do in the call's namespace when it
// cannot be used there.
func reaches(call *engine.Call, t *token.Entry) error {
	if t.NamespaceID == ns(call) {
		return nil
	}
	n, err := desks(call).Namespaces.ByID(call.Tx, t.NamespaceID)
	if errors.Is(err, namespace.ErrNotFound) {
		return token.ErrBad
	}
	if err != nil || strings.HasPrefix(call.NamespacePath, n.Path) {
		return err
	}
	if all, err := desks(call).Identity.AllNamespaces(call.Tx); err != nil || all {
		return err
	}
	return errs.New(errs.Invalid, "the token belongs to a namespace below this one: ask there")
}

func aclOf(call *engine.Call, t *token.Entry) (*policy.ACL, error) {
	return desks(call).ACLOf(call.Tx, t)
}

func isBad(err error) bool { return errors.Is(err, token.ErrBad) }
