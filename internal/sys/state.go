package sys

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"arca/internal/cluster"
	"arca/internal/core"
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
		engine.Read("ha-status", e.haStatus, engine.TopLevel, engine.RootOnly, engine.ActiveOnly, engine.ID("ha-status"), engine.Help("List the nodes of the cluster.")),
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
	initialised, sealed, standby, removed bool
	cluster                               seal.Cluster
	version                               string
	now                                   int64
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
	b = strconv.AppendBool(b, h.sealed || h.standby)
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
	if h.removed {
		b = append(b, `,"removed_from_cluster":true`...)
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
		if !a.Leads() {
			out.standby = true
			if code, text = http.StatusTooManyRequests, in.StandbyCode; text == "" && isTrue(in.StandbyOK) {
				code, text = http.StatusOK, in.ActiveCode
			}
			if out.removed = e.core.Cluster().Removed(); out.removed {
				code, text = statusRemoved, in.RemovedCode
			}
		}
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
	for _, c := range [...]string{in.ActiveCode, in.StandbyCode, in.DRCode, in.PerfCode, in.SealedCode, in.UninitCode, in.RemovedCode} {
		if c == "" {
			continue
		}
		if n, err := strconv.Atoi(c); err != nil || n < 100 || n > 999 {
			return nil, errs.New(errs.Invalid, "")
		}
	}
	for name, value := range map[string]string{"standbyok": in.StandbyOK, "perfstandbyok": in.PerfStandbyOK} {
		if _, err := strconv.ParseBool(value); value != "" && err != nil {
			return nil, errs.New(errs.Invalid, "bad value for the parameter %s: %q is neither true nor false", name, value)
		}
	}
	if text != "" {
		code, _ = strconv.Atoi(text) // checked above
	}
	return &engine.Response{Raw: &engine.Raw{Status: code, Body: out.encode()}}, nil
}

// statusRemoved is Vault's code for a node that was taken out of its cluster.
const statusRemoved = 530

// isTrue reads a flag in the query: given without a value it is set.
func isTrue(text string) bool {
	yes, err := strconv.ParseBool(text)
	return err == nil && yes
}

// rawJSON is an answer without an envelope.
func rawJSON(v any) (*engine.Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Raw: &engine.Raw{Body: append(body, '\n')}}, nil
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
	RaftCommitted        uint64    `json:"raft_committed_index,omitempty"`
	RaftApplied          uint64    `json:"raft_applied_index,omitempty"`
}

func (e *Engine) leader(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	share := e.core.Cluster()
	if share == nil || share.Alone() {
		return rawJSON(leaderOut{})
	}
	a := e.core.Active()
	if a == nil {
		return nil, core.ErrSealed
	}
	out := leaderOut{HAEnabled: true, IsSelf: a.Leads(), ActiveTime: a.LeadsSince()}
	if log := share.Store(); log != nil {
		out.RaftCommitted, out.RaftApplied = log.Committed(), log.Applied()
	}
	if l, ok := share.Leader(); ok {
		out.LeaderAddress, out.LeaderClusterAddress = l.APIAddr, l.ClusterAddr
	}
	return rawJSON(out)
}

// stepDown lets another node become active. The answer does not wait for that one.
func (e *Engine) stepDown(ctx context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	a, share := e.core.Active(), e.core.Cluster()
	if share == nil || share.Alone() {
		return nil, nil // without other nodes there is nobody to step down for
	}
	if a == nil {
		return nil, core.ErrSealed
	}
	if !a.Leads() {
		return nil, core.ErrStandby
	}
	if err := e.core.Authorize(ctx, call.Request, true); err != nil {
		return nil, err
	}
	if err := share.StepDown(); err != nil && !errs.Is(err, errs.Precondition) {
		e.core.Config().Log.Warn("step down", "error", err)
	}
	return nil, nil
}

func (e *Engine) haStatus(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	cfg := e.core.Config()
	if share := e.core.Cluster(); share != nil && !share.Alone() {
		return data(map[string]any{"nodes": haNodes(share.Nodes())}), nil
	}
	return data(map[string]any{"nodes": []map[string]any{{
		"active_node": true, "api_address": cfg.APIAddr, "cluster_address": cfg.ClusterAddr, "hostname": hostname(),
		"last_echo": nil, "version": version.Compat(cfg.CompatVersion),
	}}}), nil
}

func haNodes(list []cluster.Info) []map[string]any {
	nodes := []map[string]any{}
	for i, n := range list {
		upgrade := n.UpgradeVersion
		if upgrade == "" {
			upgrade = n.Version
		}
		node := map[string]any{
			"active_node": i == 0, "api_address": n.APIAddr, "cluster_address": n.ClusterAddr, "hostname": n.Hostname,
			"last_echo": nil, "version": n.Version, "upgrade_version": upgrade,
		}
		if !n.Heard.IsZero() {
			node["last_echo"] = n.Heard
		}
		if n.Zone != "" {
			node["redundancy_zone"] = n.Zone
		}
		nodes = append(nodes, node)
	}
	return nodes
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

func hostname() string {
	h, _ := os.Hostname() // empty where it cannot be had
	return h
}
