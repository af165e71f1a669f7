// Package cluster is what nodes that share a store have to do with each other: who belongs, who leads, how they talk. They share a
// raft log, or a database (package remote); then the database says who leads, and the others answer nothing themselves.
//
// A Node is one of them. From Start, when its keys are open, to Stop it listens at its cluster address for nodes with a
// certificate of the same authority, takes part in raft, tells the leader about itself, and knows by Fresh when a read
// may be answered here. Whoever leads looks after the others' health (autopilot) and gives those that are stable a vote.
//
// A new node is let in by its answer to a challenge: seal.Manager has that, since it takes the unseal keys.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/raft"
	"arca/internal/storage/remote"
)

// Config of a Node.
type Config struct {
	Store   *raft.Store   // nil with Shared
	Shared  *remote.Store // a database
	NodeID  string
	Address string   // host and port at which other nodes reach this one
	Bind    []string // where it listens for them
	// APIAddr and ClusterAddr are URLs, as other nodes and clients are told.
	APIAddr, ClusterAddr string
	Version              string
	UpgradeVersion       string // counts for upgrades in place of Version
	Zone                 string // of redundancy
	NonVoter             bool   // holds the data without a vote
	Log                  *slog.Logger
	// Serve serves the requests that other nodes forward, until the listener is closed.
	Serve func(net.Listener)
	// Reconcile and Update are autopilot's intervals; 0 is a good one.
	Reconcile, Update time.Duration
}

// Info is what a node says about itself.
type Info struct {
	ID             string    `json:"id"`
	APIAddr        string    `json:"api_addr"`
	ClusterAddr    string    `json:"cluster_addr"`
	Address        string    `json:"address"`
	Hostname       string    `json:"hostname"`
	Version        string    `json:"version"`
	UpgradeVersion string    `json:"upgrade_version,omitempty"`
	Zone           string    `json:"zone,omitempty"`
	NonVoter       bool      `json:"non_voter,omitempty"`
	LastIndex      uint64    `json:"last_index"`
	LastTerm       uint64    `json:"last_term"`
	Since          time.Time `json:"since,omitzero"` // when it became the active node
	Heard          time.Time `json:"-"`              // by the leader, last
	// Traits are those of all nodes, which the leader tells: the next one must know in which zone a node was that is gone.
	Traits map[string]Traits `json:"traits,omitempty"`
}

// Traits are what counts for a node's vote.
type Traits struct {
	Zone     string `json:"zone,omitempty"`
	Version  string `json:"version,omitempty"` // that counts for upgrades
	NonVoter bool   `json:"non_voter,omitempty"`
}

func (i *Info) traits() Traits {
	t := Traits{i.Zone, i.UpgradeVersion, i.NonVoter}
	if t.Version == "" {
		t.Version = i.Version
	}
	return t
}

// Events are raft.Events, and what becomes of the others.
type Events struct {
	Follow  func()
	Lead    func()
	Applied func(storage.Change) error
	// Report takes what another node has reported, while this one leads; nil takes nothing.
	Report func(ctx context.Context, what []byte) error
}

// A member is a node's part in its store, of either kind.
type member interface {
	Leading() bool
	Leader() (id, address string)
	StepDown(id string) error
	Again()
	Last() (index, term uint64)
	Stop()
}

// A Node is one node of a cluster. It is safe for concurrent use.
type Node struct {
	cfg  Config
	part member
	log  *slog.Logger

	running atomic.Pointer[running] // nil while sealed
	starts  sync.Mutex
	noVote  atomic.Bool
	// expelled: the leader has said that this node does not belong any more.
	expelled atomic.Bool
	untold   atomic.Bool // Events.Lead has not returned since Bind, or since Follow was called
	looking  atomic.Bool // whether the leader's process is there, in parted
	hostname string
	kick     chan struct{} // the leader has changed

	asking sync.Mutex
	next   *question
	under  bool

	mu     sync.Mutex
	known  map[string]Info // by id, at the leader
	leader Info            // as it told us
	since  time.Time       // when this node came to lead
	traits map[string]Traits
	parked map[string]string // addresses of members that they have not got yet, by id
	// doubles are where others with the ids of members say that they are, and admitted is when members were let in by this node.
	doubles  map[string]string
	admitted map[string]time.Time

	admitting sync.Mutex // held by Admit

	pilot pilot

	report func(ctx context.Context, what []byte) error // of Events
}

type running struct {
	web    *web
	pass   *pass
	ctx    context.Context //nolint:containedctx // of the node's time unsealed
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New makes a node. It starts nothing.
func New(cfg Config) *Node {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, kick: make(chan struct{}, 1), known: map[string]Info{}, traits: map[string]Traits{}, parked: map[string]string{},
		doubles: map[string]string{}, admitted: map[string]time.Time{},
	}
	n.hostname, _ = os.Hostname() // empty where it cannot be had
	if n.part = cfg.Store; cfg.Shared != nil {
		n.part = cfg.Shared
	}
	n.pilot.init(n)
	return n
}

// Bind says whom to tell. It must be called once, before Start and Bootstrap.
func (n *Node) Bind(on Events) {
	n.report = on.Report
	n.untold.Store(true)
	if n.cfg.Shared != nil {
		n.cfg.Shared.Bind(remote.Events{Applied: on.Applied, Follow: func() {
			n.untold.Store(true)
			on.Follow()
		}, Lead: func() {
			n.led()
			on.Lead()
			n.untold.Store(false)
		}})
		return
	}
	n.cfg.Store.Bind(raft.Events{
		Follow: func() {
			n.untold.Store(true)
			n.pilot.stop()
			on.Follow()
		},
		Lead: func() {
			n.led()
			on.Lead()
			n.pilot.start()
			n.untold.Store(false)
		},
		Applied: on.Applied,
		Peers:   n.peersChanged,
	})
}

// led notes when this node came to lead.
func (n *Node) led() {
	defer n.peersChanged() // its own address may be another in the configuration
	n.mu.Lock()
	defer n.mu.Unlock()
	n.since = time.Now().UTC()
	clear(n.known)
	clear(n.parked)
	clear(n.doubles)
	clear(n.admitted)
}

// Bootstrap makes this node a cluster of its own, and has it lead until Stop, without talking to anybody. It is for the
// first content of a new store.
func (n *Node) Bootstrap(ctx context.Context) error {
	n.starts.Lock()
	defer n.starts.Unlock()
	if n.cfg.Shared != nil {
		return n.leadShared(ctx)
	}
	_, t := hraft.NewInmemTransport(hraft.ServerAddress(n.cfg.Address))
	if err := n.cfg.Store.Start(raft.StartOptions{Transport: t, Bootstrap: !n.cfg.Store.HasPeers()}); err != nil {
		return err
	}
	return n.awaitLead(ctx)
}

// leadShared begins the first content of a database.
func (n *Node) leadShared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, foundingTime)
	defer cancel()
	if err := n.cfg.Shared.Start(ctx); err != nil {
		return err
	}
	if err := n.awaitLead(ctx); err != nil {
		if id, _ := n.part.Leader(); id != "" {
			return errs.New(errs.Unavailable, "the node %q writes to the storage at present: initialise there, or try again when it has ended", id)
		}
		if why := n.cfg.Shared.Fresh(ctx); why != nil {
			return errs.New(errs.Unavailable, "%w", why)
		}
		return err
	}
	return nil
}

// foundingTime is how long a node waits for the right to write the first content: longer than the lease of one that ended.
const foundingTime = 20 * time.Second

// awaitLead returns when this node leads, and who is told of that has the right to write.
func (n *Node) awaitLead(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !n.part.Leading() || n.untold.Load() {
		select {
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "wait until this node leads: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// Start takes part in the cluster whose keyring ring is. A cluster of this node alone has a leader when it returns.
func (n *Node) Start(ctx context.Context, ring *barrier.Keyring) error {
	n.starts.Lock()
	defer n.starts.Unlock()
	n.stop()
	if n.Alone() {
		return n.startShared(ctx)
	}
	p, err := newPass(ring, n.cfg.NodeID)
	if err != nil {
		return err
	}
	w, err := openWeb(p, n.cfg.Address, n.cfg.Bind, n.log)
	if err != nil {
		p.wipe()
		return err
	}
	r := &running{web: w, pass: p}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	n.running.Store(r)
	if err := n.startPart(ctx, w); err != nil {
		n.stop()
		return err
	}
	r.work.Go(func() { n.echo(r) })
	if n.cfg.Serve != nil {
		r.work.Go(func() { n.cfg.Serve(w.streams[protoHTTP]) })
	}
	r.work.Go(func() {
		for {
			c, err := w.streams[protoAsk].Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { n.serve(r.ctx, c) })
		}
	})
	if peers := n.peers(); len(peers) == 1 && peers[0].ID == n.cfg.NodeID {
		ctx, cancel := context.WithTimeout(ctx, transportTimeout)
		defer cancel()
		if err := n.awaitLead(ctx); err != nil {
			n.log.Warn("this node is alone and does not lead yet", "error", err)
		}
	}
	return nil
}

// startPart has the node's store take part.
func (n *Node) startPart(ctx context.Context, w *web) error {
	if n.cfg.Shared != nil {
		return n.startShared(ctx)
	}
	w.streams[protoRaft].parted = n.parted
	return n.cfg.Store.Start(raft.StartOptions{Transport: newCarrier(w, n.log)})
}

// startShared asks the database for the right to write. That it does not answer is no reason not to open: it may come back.
func (n *Node) startShared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transportTimeout)
	defer cancel()
	if err := n.cfg.Shared.Start(ctx); err != nil {
		n.log.Warn("the storage has not answered yet", "error", err)
	}
	return nil
}

// peers are the members of a raft cluster.
func (n *Node) peers() []raft.Peer {
	if n.cfg.Store == nil {
		return nil
	}
	return n.cfg.Store.Peers()
}

// Alone reports whether this node shares its store with nobody: a database without ha_enabled.
func (n *Node) Alone() bool { return n.cfg.Shared != nil && n.cfg.Shared.Alone() }

// ServesReads reports whether a standby answers reads itself.
func (n *Node) ServesReads() bool { return n.cfg.Shared == nil }

// Stop leaves the cluster: the node is not seen any more. If it leads and another could, hand over first: see StepDown.
func (n *Node) Stop() {
	n.starts.Lock()
	defer n.starts.Unlock()
	n.stop()
}

func (n *Node) stop() {
	n.part.Stop()
	n.pilot.wait()
	r := n.running.Swap(nil)
	if r == nil {
		return
	}
	r.cancel()
	r.web.close()
	r.work.Wait()
	r.pass.wipe()
	n.mu.Lock()
	n.leader = Info{}
	clear(n.known)
	n.mu.Unlock()
}

// Store is the raft log below; nil on a database.
func (n *Node) Store() *raft.Store { return n.cfg.Store }

// WantNoVote has this node hold the data without a vote, or not, where its Config does not say that.
func (n *Node) WantNoVote(is bool) { n.noVote.Store(is) }

// probeEvery is how often a node that hears of no leader asks those that it knows whether it still belongs.
const probeEvery = 3 * time.Second

// probe asks all members that this node knows of. One that was taken out while it was away hears so from the leader, and from nobody else: its log
// does not say it.
func (n *Node) probe(r *running) {
	for _, p := range n.peers() {
		if p.ID == n.cfg.NodeID {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, probeEvery)
		err := n.probeOne(ctx, r, p.Address)
		var other *elsewhere
		if errors.As(err, &other) && other.leader != p.Address {
			err = n.probeOne(ctx, r, other.leader)
		}
		cancel()
		n.judged(p.ID, err)
	}
}

// judged takes what a node answered to an echo: only the leader denies it, and only one that is no member.
func (n *Node) judged(by string, err error) {
	if n.cfg.Store != nil && errs.Is(err, errs.Denied) && !n.expelled.Swap(true) {
		n.log.Warn("this node does not belong to the cluster any more: to join it again, give it an empty folder", "says", by)
	}
}

func (n *Node) probeOne(ctx context.Context, r *running, to string) error {
	c, err := r.web.dial(ctx, protoAsk, "", to)
	if err != nil {
		return errs.New(errs.Unavailable, "%w", err) // who cannot be reached has said nothing
	}
	l := &line{conn: c, address: to, waits: map[uint64]chan message{}}
	if !r.web.beside(l.run) {
		return raft.ErrNoLeader // and the connection has ended with the web
	}
	defer func() { _ = c.Close() }() // it was for one question
	return l.ask(ctx, askEcho, n.Self(), &Info{})
}

// StepDown lets another node lead.
func (n *Node) StepDown() error { return n.part.StepDown("") }

// Again has this node, if it leads, begin that anew: Events.Follow and Events.Lead.
func (n *Node) Again() { n.part.Again() }

// Leading reports whether this node leads.
func (n *Node) Leading() bool { return n.part.Leading() }

// Self is what this node says about itself.
func (n *Node) Self() Info {
	index, term := n.part.Last()
	i := Info{
		ID: n.cfg.NodeID, APIAddr: n.cfg.APIAddr, ClusterAddr: n.cfg.ClusterAddr, Address: n.cfg.Address, Hostname: n.hostname,
		Version: n.cfg.Version, UpgradeVersion: n.cfg.UpgradeVersion, Zone: n.cfg.Zone, NonVoter: n.cfg.NonVoter || n.noVote.Load(),
		LastIndex: index, LastTerm: term,
	}
	if n.Leading() {
		n.mu.Lock()
		i.Since = n.since
		n.mu.Unlock()
	}
	return i
}

// Leader is what the leader says about itself; false while none is known.
func (n *Node) Leader() (Info, bool) {
	if n.Leading() {
		return n.Self(), true
	}
	id, _ := n.part.Leader()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader, id != "" && n.leader.ID == id
}

// Nodes lists the leader, and at the leader all others, with when they were heard last.
func (n *Node) Nodes() []Info {
	self := n.Self()
	list := []Info{self}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.Shared != nil {
		for _, id := range slices.Sorted(maps.Keys(n.known)) {
			if i := n.known[id]; time.Since(i.Heard) < forgetAfter {
				list = append(list, i)
			}
		}
		return list
	}
	for _, p := range n.cfg.Store.Peers() {
		if i, ok := n.known[p.ID]; ok && p.ID != self.ID {
			list = append(list, i)
		}
	}
	return list
}

// forgetAfter is when a standby on a database that is not heard any more is no longer shown.
const forgetAfter = 15 * time.Second

// LeaderAddress is where the leader's Conns are dialled; false while there is none, or this node is it.
func (n *Node) LeaderAddress() (string, bool) {
	id, to := n.part.Leader()
	return to, to != "" && id != n.cfg.NodeID
}

// Dial opens a connection to another node, for its Config.Serve.
func (n *Node) Dial(ctx context.Context, to string) (net.Conn, error) {
	r := n.running.Load()
	if r == nil {
		return nil, raft.ErrNoLeader
	}
	c, err := r.web.dial(ctx, protoHTTP, "", to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (n *Node) peersChanged() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// Echoes tell the leader of this node, and this node of the leader.
const (
	echoEvery = 3 * time.Second
	echoSoon  = 100 * time.Millisecond
	echoNew   = 250 * time.Millisecond // by a node that has no vote yet, in its first time: it gets one for what it tells
	newFor    = 15 * time.Second
)

func (n *Node) echo(r *running) {
	t := time.NewTimer(0)
	defer t.Stop()
	began := time.Now()
	probed := began // when others were asked last, or a leader was there
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		case <-n.kick:
		}
		wait := echoEvery
		switch {
		case n.Leading():
			n.settle(r)
			probed = time.Now()
			n.expelled.Store(false)
		case n.echoOnce(r):
			probed = time.Now()
			n.expelled.Store(false)
			if time.Since(began) < newFor && !n.votes() {
				wait = echoNew
			}
		default:
			wait = echoSoon // there will be a leader soon
			if n.cfg.Store != nil && time.Since(probed) > probeEvery {
				n.probe(r)
				probed = time.Now()
			}
			if n.expelled.Load() {
				wait = echoEvery // it may last
			}
		}
		t.Reset(wait)
	}
}

// votes reports whether this node has a vote, or there are none to have.
func (n *Node) votes() bool {
	if n.cfg.Store == nil {
		return true
	}
	return slices.ContainsFunc(n.cfg.Store.Peers(), func(p raft.Peer) bool { return p.ID == n.cfg.NodeID && p.Voter })
}

func (n *Node) echoOnce(r *running) bool {
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	defer cancel()
	id, to := n.part.Leader()
	if to == "" || id == n.cfg.NodeID {
		return false
	}
	l, err := r.web.lineTo(ctx, to)
	var leader Info
	if err == nil {
		err = l.ask(ctx, askEcho, n.Self(), &leader)
		n.judged(id, err)
	}
	if err != nil {
		n.log.Debug("tell the active node of this one", "error", err)
		if n.cfg.Shared != nil {
			n.cfg.Shared.Poke() // the lock may be free
		}
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leader = leader
	if leader.Traits != nil {
		n.traits = leader.Traits
	}
	return true
}

// heard takes the echo of another node, which is the process with a mark; "" if that is not known.
func (n *Node) heard(ctx context.Context, its string, in Info) (Info, error) {
	if !n.Leading() {
		return Info{}, raft.ErrNoLeader
	}
	in.Heard = time.Now().UTC()
	if n.cfg.Shared != nil {
		return n.heardShared(in), nil
	}
	member, has := false, ""
	for _, p := range n.cfg.Store.Peers() {
		if p.ID == in.ID {
			member, has = true, p.Address
		}
	}
	moved := has != in.Address
	switch {
	case !member:
		return Info{}, errs.New(errs.Denied, "the node %q does not belong to the cluster any more", in.ID)
	case moved && its != "" && n.double(ctx, in.ID, in.Address, its, has):
		return Info{}, errs.New(errs.Conflict, "another node with the id %q answers at %q: stop this one, and give it another node_id and an empty folder", in.ID, has)
	}
	n.mu.Lock()
	_, was := n.known[in.ID]
	n.known[in.ID] = in
	n.traits[in.ID] = in.traits()
	n.mu.Unlock()
	if index, _ := n.cfg.Store.Last(); !was && in.LastIndex < index {
		n.cfg.Store.Nudge() // it was not there when it was let in
	}
	if moved {
		if err := n.relocate(ctx, in.ID, in.Address); err != nil {
			return Info{}, err
		}
	}
	out := n.Self()
	out.Traits = n.allTraits(&out)
	return out, nil
}

// allTraits are those of the members, where any is not as all are.
func (n *Node) allTraits(self *Info) map[string]Traits {
	peers := n.cfg.Store.Peers()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.traits[self.ID] = self.traits()
	all, plain := map[string]Traits{}, true
	for _, p := range peers {
		if t, ok := n.traits[p.ID]; ok {
			all[p.ID] = t
			plain = plain && t == Traits{Version: self.Version}
		}
	}
	n.traits = all // those who left are forgotten
	if plain {
		return nil
	}
	return maps.Clone(all)
}

// maxKnown bounds how many standbys on a database are remembered.
const maxKnown = 1000

func (n *Node) heardShared(in Info) Info {
	n.mu.Lock()
	if _, ok := n.known[in.ID]; !ok && len(n.known) >= maxKnown {
		clear(n.known)
	}
	n.known[in.ID] = in
	n.mu.Unlock()
	return n.Self()
}

// Introduction is what a node that joins says about itself: the text that its proof is bound to.
func Introduction(id, clusterAddr string, nonVoter bool) []byte {
	return fmt.Appendf(nil, "%q %q %t", id, clusterAddr, nonVoter)
}

// HostPort takes host and port out of a cluster address, which is a URL.
func HostPort(addr string) (string, error) {
	u, err := url.Parse(addr)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", errs.New(errs.Invalid, "the cluster address %q must be a URL with a host and a port, as in https://10.0.0.1:8201", addr)
	}
	port := u.Port()
	if port == "" {
		port = "8201"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
