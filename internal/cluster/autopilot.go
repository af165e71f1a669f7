package cluster

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"arca/internal/storage/raft"
)

// Autopilot are the settings of autopilot, with the defaults of Vault.
type Autopilot struct {
	CleanupDeadServers    bool          `json:"cleanup_dead_servers"`
	LastContact           time.Duration `json:"last_contact"`             // silence after which a node is unhealthy
	DeadServerLastContact time.Duration `json:"dead_server_last_contact"` // ... and after which it is removed
	ServerStabilization   time.Duration `json:"server_stabilization"`     // health before a vote
	MinQuorum             uint          `json:"min_quorum"`               // voters that are never removed
	MaxTrailingLogs       uint64        `json:"max_trailing_logs"`        // entries that a healthy node may be behind
	DisableUpgrade        bool          `json:"disable_upgrade,omitempty"`
}

// DefaultAutopilot are the settings where none are kept.
func DefaultAutopilot() Autopilot {
	return Autopilot{
		LastContact: 10 * time.Second, DeadServerLastContact: 24 * time.Hour, ServerStabilization: 10 * time.Second, MaxTrailingLogs: 1000,
	}
}

const (
	reconcileEvery = time.Second
	updateEvery    = time.Second
)

// pilot runs hashicorp/raft-autopilot while this node leads.
type pilot struct {
	node *Node

	set atomic.Pointer[Autopilot]

	mu     sync.Mutex
	runs   *autopilot.Autopilot
	cancel context.CancelFunc
	ended  <-chan struct{} // of the last run
}

func (p *pilot) init(n *Node) {
	p.node = n
	n.SetAutopilot(DefaultAutopilot())
}

// SetAutopilot changes the settings.
func (n *Node) SetAutopilot(a Autopilot) { n.pilot.set.Store(&a) }

func (p *pilot) settings() Autopilot { return *p.set.Load() }

func (p *pilot) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.node.cfg.Store.Raft()
	if r == nil || p.runs != nil {
		return
	}
	every := func(d, standard time.Duration) time.Duration {
		if d > 0 {
			return d
		}
		return standard
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	p.runs = autopilot.New(handler{r, p.node.cfg.Store}, p, autopilot.WithLogger(raft.NewLogger(p.node.log)), autopilot.WithPromoter(&promoter{pilot: p}),
		autopilot.WithReconcileInterval(every(p.node.cfg.Reconcile, reconcileEvery)),
		autopilot.WithUpdateInterval(every(p.node.cfg.Update, updateEvery)))
	p.runs.Start(ctx)
}

// stop ends the run without waiting: autopilot may itself wait for raft.
func (p *pilot) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs == nil {
		return
	}
	p.cancel()
	p.ended = p.runs.Stop()
	p.runs = nil
}

func (p *pilot) wait() {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// handler hands leadership over through the store, whose lease must end first, and gives votes through it: autopilot acts on what it saw a moment ago,
// and raft's own AddVoter makes a node that was removed meanwhile a member again. So are votes taken, and members removed: raft itself may never answer when it is ended.
type handler struct {
	*hraft.Raft
	store *raft.Store
}

// LeadershipTransferToServer implements autopilot.Raft.
func (h handler) LeadershipTransferToServer(id hraft.ServerID, _ hraft.ServerAddress) hraft.Future {
	return transferred{h.store.StepDown(string(id))}
}

// AddVoter implements autopilot.Raft.
func (h handler) AddVoter(id hraft.ServerID, _ hraft.ServerAddress, _ uint64, _ time.Duration) hraft.IndexFuture {
	return transferred{h.store.Promote(string(id))}
}

// DemoteVoter implements autopilot.Raft.
func (h handler) DemoteVoter(id hraft.ServerID, _ uint64, _ time.Duration) hraft.IndexFuture {
	return transferred{h.store.Demote(string(id))}
}

// RemoveServer implements autopilot.Raft.
func (h handler) RemoveServer(id hraft.ServerID, _ uint64, _ time.Duration) hraft.IndexFuture {
	return transferred{h.store.Remove(string(id))}
}

type transferred struct{ err error }

// Index implements raft.IndexFuture. Autopilot does not ask for it.
func (transferred) Index() uint64 { return 0 }

// Error implements raft.Future.
func (t transferred) Error() error { return t.err }

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	s := p.settings()
	return &autopilot.Config{
		CleanupDeadServers: s.CleanupDeadServers, LastContactThreshold: s.LastContact, MaxTrailingLogs: s.MaxTrailingLogs,
		MinQuorum: s.MinQuorum, ServerStabilizationTime: s.ServerStabilization,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p *pilot) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration: by what the nodes have told.
func (p *pilot) FetchServerStats(_ context.Context, servers map[hraft.ServerID]*autopilot.Server) map[hraft.ServerID]*autopilot.ServerStats {
	n := p.node
	self := n.Self()
	out := map[hraft.ServerID]*autopilot.ServerStats{}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range servers {
		if string(id) == self.ID {
			out[id] = &autopilot.ServerStats{LastTerm: self.LastTerm, LastIndex: self.LastIndex}
			continue
		}
		if i, ok := n.known[string(id)]; ok {
			out[id] = &autopilot.ServerStats{LastContact: now.Sub(i.Heard), LastTerm: i.LastTerm, LastIndex: i.LastIndex}
		}
	}
	return out
}

// KnownServers implements autopilot.ApplicationIntegration.
func (p *pilot) KnownServers() map[hraft.ServerID]*autopilot.Server {
	n := p.node
	self, set := n.Self(), p.settings()
	out := map[hraft.ServerID]*autopilot.Server{}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, peer := range n.cfg.Store.Peers() {
		s := &autopilot.Server{
			ID: hraft.ServerID(peer.ID), Name: peer.ID, Address: hraft.ServerAddress(peer.Address), NodeStatus: autopilot.NodeAlive,
			RaftVersion: int(hraft.ProtocolVersionMax), Version: self.Version, Meta: map[string]string{}, NodeType: autopilot.NodeVoter,
		}
		i, ok := n.known[peer.ID]
		t := n.traits[peer.ID]
		switch {
		case peer.ID == self.ID:
			s.IsLeader = true
			t, ok, i = self.traits(), true, self
		case !ok && now.Sub(n.since) < set.DeadServerLastContact:
			s.NodeStatus = autopilot.NodeAlive // it has had no time to be heard; its health says the rest
		case !ok || now.Sub(i.Heard) > set.DeadServerLastContact:
			s.NodeStatus = autopilot.NodeFailed
		}
		if ok {
			s.Version = i.Version
			t = i.traits()
		}
		if t.NonVoter {
			s.NodeType = nonVoter
		}
		s.Meta[metaZone], s.Meta[metaVersion], s.Meta[metaHeard] = t.Zone, t.Version, strconv.FormatBool(ok)
		out[s.ID] = s
	}
	return out
}

// RemoveFailedServer implements autopilot.ApplicationIntegration.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	n := p.node
	r := n.running.Load()
	if r == nil {
		return
	}
	r.work.Go(func() {
		if err := n.cfg.Store.Remove(string(s.ID)); err != nil {
			n.log.Warn("remove a dead node", "node", string(s.ID), "error", err)
			return
		}
		n.log.Info("a dead node was removed from the cluster", "node", string(s.ID))
	})
}

// AutopilotState is what autopilot knows; nil while this node does not lead, or nothing is known yet.
func (n *Node) AutopilotState() *autopilot.State {
	n.pilot.mu.Lock()
	defer n.pilot.mu.Unlock()
	if n.pilot.runs == nil {
		return nil
	}
	return n.pilot.runs.GetState()
}
