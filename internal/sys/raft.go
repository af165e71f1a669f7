package sys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"arca/internal/cluster"
	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
)

// raftRoutes are sys/storage/raft: the nodes that share the store.
func (e *Engine) raftRoutes() []engine.Route {
	if share := e.core.Cluster(); share == nil || share.Store() == nil {
		return nil
	}
	return append(e.autoRoutes(), []engine.Route{
		engine.Read("storage/raft/configuration", e.raftConfiguration, engine.RootOnly, engine.Help("List the nodes that hold the storage.")),
		engine.Write("storage/raft/remove-peer", e.removePeer, engine.RootOnly, engine.ActsOutside, engine.Help("Remove a node from the cluster.")),
		engine.Write("storage/raft/join", e.joinRaft, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Make this node join a cluster.")),
		engine.Write("storage/raft/bootstrap/challenge", e.raftChallenge, engine.Always, engine.RootOnly, engine.NoParamWarn,
			engine.Help("Give a challenge to a node that wants to join.")),
		engine.Write("storage/raft/bootstrap/answer", e.raftAnswer, engine.Always, engine.RootOnly, engine.NoParamWarn,
			engine.Help("Let a node join that answers its challenge.")),
		engine.Read("storage/raft/freshness", e.raftFreshness, engine.Always, engine.RootOnly,
			engine.Help("Tell how much of the cluster's log this node has, for operator raft recover.")),
		engine.Read("storage/raft/autopilot/configuration", e.readAutopilot, engine.RootOnly, engine.Help("Read autopilot's settings.")),
		engine.Write("storage/raft/autopilot/configuration", e.writeAutopilot, engine.RootOnly, engine.Help("Change autopilot's settings.")),
		engine.Read("storage/raft/snapshot", e.saveSnapshot, engine.RootOnly, engine.Help("Save the storage, encrypted as it is, as a file.")),
		engine.Write("storage/raft/snapshot", e.restoreSnapshot, engine.RootOnly, engine.ActsOutside, engine.NoParamWarn,
			engine.Help("Replace the storage by a snapshot of the same cluster.")),
		engine.Write("storage/raft/snapshot-force", e.forceSnapshot, engine.RootOnly, engine.ActsOutside, engine.NoParamWarn,
			engine.Help("Replace the storage by a snapshot, of any cluster.")),
		engine.Read("storage/raft/autopilot/state", e.autopilotState, engine.RootOnly, engine.ActiveOnly, engine.Help("Tell how the nodes are.")),
	}...)
}

func (e *Engine) raftConfiguration(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	servers := []map[string]any{}
	for _, p := range e.core.Cluster().Store().Peers() {
		servers = append(servers, map[string]any{
			"node_id": p.ID, "address": p.Address, "leader": p.Leader, "voter": p.Voter, "protocol_version": "3",
		})
	}
	return data(map[string]any{"config": map[string]any{"index": 0, "servers": servers}}), nil
}

// raftFreshness helps those who have lost most of a cluster: it is answered sealed and without a leader, when no token can be looked up. It
// tells no more than sys/leader, sys/health and sys/seal-status, of the node itself.
func (e *Engine) raftFreshness(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	share := e.core.Cluster()
	identity, left, err := e.seal.Identity(ctx)
	if err != nil {
		return nil, err
	}
	self := share.Self()
	leader, _ := share.Store().Leader()
	out := map[string]any{
		"node_id": self.ID, "cluster_id": identity.ID, "cluster_address": self.Address, "sealed": e.core.Sealed(), "leader_id": leader,
		"last_index": self.LastIndex, "last_term": self.LastTerm, "applied_index": share.Store().Applied(), "restored": share.Store().Restored(),
	}
	if left != nil {
		out["migrated_to"] = left.To
	}
	return data(out), nil
}

type removePeerIn struct {
	ServerID    string `api:"server_id" help:"Id of the node."`
	DROperation string `api:"dr_operation_token"`
}

func (e *Engine) removePeer(_ context.Context, _ *engine.Call, in removePeerIn) (*engine.Response, error) {
	if in.ServerID == "" {
		return nil, errs.New(errs.Invalid, "no server id provided")
	}
	return nil, e.core.Cluster().Store().Remove(in.ServerID)
}

// joinRequest is the body of sys/storage/raft/join.
type joinRequest struct {
	LeaderAPIAddr    string `json:"leader_api_addr"`
	LeaderCACert     string `json:"leader_ca_cert"`
	LeaderClientCert string `json:"leader_client_cert"`
	LeaderClientKey  string `json:"leader_client_key"`
	LeaderServerName string `json:"leader_tls_servername"`
	AutoJoin         string `json:"auto_join"`
	AutoJoinScheme   string `json:"auto_join_scheme"`
	AutoJoinPort     uint   `json:"auto_join_port"`
	Retry            bool   `json:"retry"`
	NonVoter         bool   `json:"non_voter"`
}

func (e *Engine) joinRaft(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req joinRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	joined := struct {
		Joined bool `json:"joined"`
	}{true}
	initialised, err := e.seal.Initialised(ctx)
	if err != nil {
		return nil, err
	}
	if initialised && !e.seal.Joining() {
		return plain(joined) // this node belongs to a cluster already
	}
	switch {
	case req.AutoJoin != "" && req.LeaderAPIAddr != "":
		return nil, errs.New(errs.Invalid, "cannot provide both leader_api_addr and auto_join")
	case req.AutoJoin == "" && req.LeaderAPIAddr == "":
		return nil, errs.New(errs.Invalid, "leader_api_addr must be given: the API address of a node of the cluster; or auto_join, a rule that finds it")
	case req.AutoJoinScheme != "" && req.AutoJoinScheme != "http" && req.AutoJoinScheme != "https":
		return nil, errs.New(errs.Invalid, "auto_join_scheme must be either 'http' or 'https'")
	}
	join := e.core.Config().Join
	if join == nil {
		return nil, errs.New(errs.Unsupported, "this node cannot join others")
	}
	joined.Joined, err = join(ctx, core.JoinRequest{
		Address: req.LeaderAPIAddr, CACert: req.LeaderCACert, ClientCert: req.LeaderClientCert, ClientKey: req.LeaderClientKey,
		ServerName: req.LeaderServerName, Retry: req.Retry, NonVoter: req.NonVoter,
		AutoJoin: req.AutoJoin, Scheme: req.AutoJoinScheme, Port: req.AutoJoinPort,
	})
	return plainOr(joined, err)
}

type challengeOut struct {
	Data struct {
		Challenge  string          `json:"challenge"`
		SealConfig json.RawMessage `json:"seal_config"`
	} `json:"data"`
}

func (e *Engine) raftChallenge(context.Context, *engine.Call, members) (*engine.Response, error) {
	inv, err := e.seal.Invite()
	if errors.Is(err, seal.ErrStandby) {
		return nil, core.ErrStandby // the active node can
	}
	if err != nil {
		return nil, err
	}
	var out challengeOut
	out.Data.Challenge, out.Data.SealConfig = base64.StdEncoding.EncodeToString(inv.Nonce), inv.Config
	return plain(out)
}

// answerRequest is the body of sys/storage/raft/bootstrap/answer.
type answerRequest struct {
	Challenge   string `json:"challenge"`
	Answer      string `json:"answer"`
	ServerID    string `json:"server_id"`
	ClusterAddr string `json:"cluster_addr"`
	NonVoter    bool   `json:"non_voter"`
}

type answerOut struct {
	Data struct {
		Reply string `json:"reply"`
	} `json:"data"`
}

func (e *Engine) raftAnswer(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req answerRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	if req.ServerID == "" || req.ClusterAddr == "" {
		return nil, errs.New(errs.Invalid, "server_id and cluster_addr must be given")
	}
	nonce, err := base64.StdEncoding.DecodeString(req.Challenge)
	proof, proofErr := base64.StdEncoding.DecodeString(req.Answer)
	if err != nil || proofErr != nil {
		return nil, errs.New(errs.Invalid, "challenge and answer must be base64")
	}
	reply, err := e.seal.Admit(nonce, proof, cluster.Introduction(req.ServerID, req.ClusterAddr, req.NonVoter))
	if errors.Is(err, seal.ErrStandby) {
		return nil, core.ErrStandby
	}
	if err != nil {
		return nil, err
	}
	record, err := e.seal.Record()
	if err != nil {
		return nil, err
	}
	sealed, err := reply(record)
	if err != nil {
		return nil, err
	}
	if err := e.core.Cluster().Admit(ctx, req.ServerID, req.ClusterAddr); err != nil {
		return nil, err
	}
	var out answerOut
	out.Data.Reply = base64.StdEncoding.EncodeToString(sealed)
	return plain(out)
}

type autopilotIn struct {
	CleanupDeadServers *bool          `api:"cleanup_dead_servers" help:"Remove nodes that failed."`
	LastContact        *time.Duration `api:"last_contact_threshold" help:"Silence after which a node is unhealthy."`
	DeadServer         *time.Duration `api:"dead_server_last_contact_threshold" help:"Silence after which a node is removed."`
	MaxTrailingLogs    *int           `api:"max_trailing_logs" help:"How many log entries a healthy node may be behind."`
	MinQuorum          *int           `api:"min_quorum" help:"Number of voters below which none is removed."`
	Stabilization      *time.Duration `api:"server_stabilization_time" help:"Time a new node must be healthy to get a vote."`
	DisableUpgrade     *bool          `api:"disable_upgrade_migration"`
	DROperation        string         `api:"dr_operation_token"`
}

func readAutopilotSettings(tx storage.Tx) (cluster.Autopilot, error) {
	a := cluster.DefaultAutopilot()
	err := readStored(tx, core.AutopilotKey, &a)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return a, err
}

func (e *Engine) readAutopilot(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	a, err := readAutopilotSettings(call.Tx)
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"cleanup_dead_servers": a.CleanupDeadServers, "last_contact_threshold": a.LastContact.String(),
		"dead_server_last_contact_threshold": a.DeadServerLastContact.String(), "max_trailing_logs": a.MaxTrailingLogs,
		"min_quorum": a.MinQuorum, "server_stabilization_time": a.ServerStabilization.String(),
	}
	if a.DisableUpgrade {
		out["disable_upgrade_migration"] = true
	}
	return data(out), nil
}

func (e *Engine) writeAutopilot(_ context.Context, call *engine.Call, in autopilotIn) (*engine.Response, error) {
	a, err := readAutopilotSettings(call.Tx)
	if err != nil {
		return nil, err
	}
	set(&a.CleanupDeadServers, in.CleanupDeadServers)
	if in.LastContact != nil && *in.LastContact > 0 { // 0 would have no node but the leader be healthy; as with Vault it changes nothing
		a.LastContact = *in.LastContact
	}
	set(&a.DeadServerLastContact, in.DeadServer)
	set(&a.ServerStabilization, in.Stabilization)
	set(&a.DisableUpgrade, in.DisableUpgrade)
	if in.MaxTrailingLogs != nil && *in.MaxTrailingLogs >= 0 {
		a.MaxTrailingLogs = uint64(*in.MaxTrailingLogs)
	}
	if in.MinQuorum != nil && *in.MinQuorum >= 0 {
		a.MinQuorum = uint(*in.MinQuorum)
	}
	if a.CleanupDeadServers && a.MinQuorum < 3 {
		return nil, errs.New(errs.Invalid, "min_quorum must be set when cleanup_dead_servers is set and it should at least be 3; cleanup_dead_servers: %#v, min_quorum: %#v",
			a.CleanupDeadServers, a.MinQuorum)
	}
	if a.DeadServerLastContact < time.Minute {
		return nil, errs.New(errs.Invalid, "dead_server_last_contact_threshold should not be less than %s; received: %s", time.Minute, a.DeadServerLastContact)
	}
	call.Tx.OnCommit(func() { e.core.Cluster().SetAutopilot(a) })
	return nil, writeStored(call.Tx, core.AutopilotKey, a)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (e *Engine) autopilotState(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	s := e.core.Cluster().AutopilotState()
	if s == nil {
		return nil, errNotFound
	}
	servers, voters, others := map[string]any{}, []string{}, []string{}
	for id, srv := range s.Servers {
		status := string(srv.State)
		entry := map[string]any{
			"id": string(id), "name": srv.Server.Name, "address": string(srv.Server.Address), "node_status": string(srv.Server.NodeStatus),
			"last_contact": lastContact(srv), "last_term": srv.Stats.LastTerm, "last_index": srv.Stats.LastIndex, "healthy": srv.Health.Healthy,
			"stable_since": srv.Health.StableSince, "status": status, "version": srv.Server.Version, "node_type": string(srv.Server.NodeType),
		}
		zone, upgrade := cluster.ServerTraits(&srv.Server)
		entry["upgrade_version"] = upgrade
		if zone != "" {
			entry["redundancy_zone"] = zone
		}
		servers[string(id)] = entry
		if srv.State == autopilot.RaftNonVoter {
			others = append(others, string(id))
		}
	}
	for _, id := range s.Voters {
		voters = append(voters, string(id))
	}
	out := map[string]any{
		"healthy": s.Healthy, "failure_tolerance": s.FailureTolerance, "leader": string(s.Leader), "voters": voters, "servers": servers,
		"optimistic_failure_tolerance": s.FailureTolerance,
	}
	if len(others) > 0 {
		out["non_voters"] = others
	}
	more := 0
	zones := map[string]any{}
	for name, z := range cluster.Zones(s) {
		zones[name] = map[string]any{"servers": z.Servers, "voters": z.Voters, "failure_tolerance": z.Failures}
		more += z.Failures
	}
	if len(zones) > 0 {
		out["redundancy_zones"], out["optimistic_failure_tolerance"] = zones, s.FailureTolerance+more
	}
	out["upgrade_info"] = upgradeInfo(cluster.Upgrade(s))
	return data(out), nil
}

// upgradeInfo shows a migration in Vault's form.
func upgradeInfo(m cluster.Migration) map[string]any {
	show := func(out map[string]any, fresh, old cluster.VersionGroup) {
		for name, list := range map[string][]string{
			"target_version_voters": fresh.Voters, "target_version_non_voters": fresh.NonVoters,
			"other_version_voters": old.Voters, "other_version_non_voters": old.NonVoters,
		} {
			if len(list) > 0 {
				out[name] = list
			}
		}
	}
	out := map[string]any{"status": m.Status, "target_version": m.Target}
	show(out, m.Fresh, m.Old)
	if len(m.Zones) == 0 {
		return out
	}
	zones := map[string]any{}
	for name, z := range m.Zones {
		zone := map[string]any{}
		show(zone, z[0], z[1])
		zones[name] = zone
	}
	out["redundancy_zones"] = zones
	return out
}

func lastContact(s *autopilot.ServerState) string {
	if s.Server.IsLeader {
		return "0s"
	}
	return strings.TrimSpace(s.Stats.LastContact.String())
}

// sumsLabel is what the checksums of a snapshot are sealed with.
var sumsLabel = []byte(core.SnapshotLabel)

func (e *Engine) saveSnapshot(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	store, ring, log := e.core.Cluster().Store(), desks(call).Ring, e.core.Config().Log
	return &engine.Response{Raw: &engine.Raw{
		ContentType: "application/gzip", Header: map[string]string{"Content-Disposition": `attachment; filename="arca.snap"`},
		Stream: func(write func([]byte) error) error {
			err := store.WriteArchive(writerFunc(write), func(sums []byte) ([]byte, error) { return ring.Seal(sumsLabel, sums) })
			if err != nil {
				log.Warn("a snapshot was not written to its end", "error", err)
			}
			return err
		},
	}}, nil
}

type writerFunc func([]byte) error

// Write implements io.Writer.
func (w writerFunc) Write(b []byte) (int, error) {
	if err := w(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (e *Engine) restoreSnapshot(_ context.Context, call *engine.Call, _ members) (*engine.Response, error) {
	return nil, e.restore(call, false)
}

func (e *Engine) forceSnapshot(_ context.Context, call *engine.Call, _ members) (*engine.Response, error) {
	return nil, e.restore(call, true)
}

var errForeign = errs.List(errs.Failed,
	"could not verify hash file, possibly the snapshot is using a different set of unseal keys; use the snapshot-force API to bypass this check")

func (e *Engine) restore(call *engine.Call, force bool) error {
	if call.Request.Body == nil {
		return errs.List(errs.Failed, "failed to decompress snapshot: EOF")
	}
	store, log := e.core.Cluster().Store(), e.core.Config().Log
	a, err := store.ReadArchive(call.Request.Body)
	if err != nil {
		return err
	}
	defer func() {
		if err := a.Close(); err != nil {
			log.Warn("remove the snapshot that was sent", "error", err)
		}
	}()
	if sums, err := desks(call).Ring.Open(sumsLabel, a.Sealed); !force && (err != nil || !bytes.Equal(sums, a.Sums)) {
		return errForeign
	}
	return store.Restore(a)
}
