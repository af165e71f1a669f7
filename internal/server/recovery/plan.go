package recovery

import (
	"fmt"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/storage/raft"
)

// A Survivor is a node of which something is left.
type Survivor struct {
	ID        string `json:"node_id"`
	Where     string `json:"where"` // its folder or its address, as it was given
	State     string `json:"state"` // stopped, sealed or leaderless
	Index     uint64 `json:"last_index"`
	Term      uint64 `json:"last_term"`
	Applied   uint64 `json:"applied_index"`
	Voteless  bool   `json:"voteless,omitempty"` // its votes are lost, or from an earlier time: it cannot be started among others
	Restored  bool   `json:"restored,omitempty"` // its state is a restored snapshot, of which it does not know whether the cluster has taken it
	ClusterID string `json:"cluster_id,omitempty"`
	Migrated  string `json:"migrated_to,omitempty"` // the type of the storage that it was migrated to, as far as its state shows
	Leader    string `json:"-"`                     // that a running node follows, or is
	// Peers are the members as the node knows them; known of those that do not run only.
	Peers []raft.Peer `json:"-"`
}

// stopped is the state of a node whose folder was looked at.
const stopped = "stopped"

// compare tells which of two nodes has more of the log, as raft elects by it.
func (s *Survivor) compare(o *Survivor) int {
	switch {
	case s.Term != o.Term:
		return int(min(max(int64(s.Term)-int64(o.Term), -1), 1))
	case s.Index < o.Index:
		return -1
	case s.Index > o.Index:
		return 1
	}
	return 0
}

// A request is what the operator wants.
type request struct {
	survivors []Survivor
	lost      []string // nodes that are gone for good
	keep      string   // the node to go on with; "" only looks
	address   string   // of that node, in place of the one that the cluster knew
	accept    bool     // keep one that has less than another
}

// A Plan is what is to be done.
type Plan struct {
	Survivors []Survivor `json:"survivors"`
	Lost      []string   `json:"lost"`
	Members   int        `json:"members"` // of the cluster, as the freshest stopped node knows it
	Quorum    int        `json:"quorum"`
	Freshest  string     `json:"freshest"`
	Keep      string     `json:"keep,omitempty"`
	Written   bool       `json:"written"`

	kept Survivor
	peer raft.Peer
}

// plan judges what is left. Its errors say what to do; nothing is lost by asking.
func plan(r *request) (*Plan, error) {
	if err := sane(r.survivors); err != nil {
		return nil, err
	}
	p := &Plan{Survivors: r.survivors, Lost: r.lost}
	freshest := slices.MaxFunc(r.survivors, func(a, b Survivor) int { return a.compare(&b) })
	p.Freshest = freshest.ID
	members := membership(r.survivors)
	if members == nil {
		if r.keep != "" {
			return p, errs.New(errs.Invalid, "node %q can be kept only where its folder is: stop its server there and name the folder", r.keep)
		}
		return p, nil
	}
	p.Members = len(members)
	if err := p.count(r, members); err != nil {
		return p, err
	}
	if r.keep == "" {
		return p, nil
	}
	return p, p.choose(r, &freshest, members)
}

// sane refuses what does not belong together, or is not lost.
func sane(list []Survivor) error {
	if len(list) == 0 {
		return errs.New(errs.Invalid, "name the folders or addresses of the nodes that are left")
	}
	seen := map[string]string{}
	for i := range list {
		s := &list[i]
		if s.ClusterID == "" {
			return errs.New(errs.Precondition, "%s holds nothing: the node %q was never initialised, or has not joined yet; it has no part in a recovery", s.Where, s.ID)
		}
		if other, ok := seen[s.ID]; ok {
			return errs.New(errs.Invalid, "%s and %s are both the node %q: name it once", other, s.Where, s.ID)
		}
		seen[s.ID] = s.Where
		if s.ClusterID != list[0].ClusterID {
			return errs.New(errs.Invalid, "%s and %s are of different clusters (%s, %s)", list[0].Where, s.Where, list[0].ClusterID, s.ClusterID)
		}
		if s.Leader != "" {
			return errs.New(errs.Precondition,
				"the cluster has a leader: node %q follows, or is, %q; nothing need be recovered (to take out nodes that are gone: operator raft remove-peer)", s.ID, s.Leader)
		}
	}
	return nil
}

// membership is who belongs, as the freshest of the nodes knows that can tell.
func membership(list []Survivor) []raft.Peer {
	var best *Survivor
	for i := range list {
		if s := &list[i]; s.State == stopped && (best == nil || s.compare(best) > 0) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	return best.Peers
}

// count looks whether every member is accounted for, and whether most voters are really gone.
func (p *Plan) count(r *request, members []raft.Peer) error {
	voters, present := 0, 0
	var open []string
	known := map[string]bool{}
	for _, m := range members {
		known[m.ID] = true
		at := slices.IndexFunc(r.survivors, func(s Survivor) bool { return s.ID == m.ID })
		here := at >= 0
		gone := slices.Contains(r.lost, m.ID)
		if m.Voter {
			voters++
		}
		switch {
		case here && gone:
			return errs.New(errs.Invalid, "the node %q is named as lost and as a survivor", m.ID)
		case here && m.Voter && !r.survivors[at].Voteless:
			present++
		case !here && !gone:
			open = append(open, m.ID)
		}
	}
	p.Quorum = voters/2 + 1
	for _, s := range r.survivors {
		if !known[s.ID] {
			return errs.New(errs.Invalid, "the node %q (%s) does not belong to the cluster any more, or never did: its members are %s", s.ID, s.Where, names(members))
		}
	}
	for _, id := range r.lost {
		if !known[id] {
			return errs.New(errs.Invalid, "there is no node %q in the cluster: its members are %s", id, names(members))
		}
	}
	if present >= p.Quorum {
		return errs.New(errs.Precondition,
			"%d of %d voters are left, which is enough: start and unseal them, and they elect a leader by themselves; nothing need be recovered", present, voters)
	}
	if len(open) > 0 {
		return errs.New(errs.Precondition, "not accounted for: %s. Each may have writes that the others lack: name its folder or its address, or, if it is gone for good, -lost=%s",
			strings.Join(open, ", "), strings.Join(open, " -lost="))
	}
	return nil
}

func names(members []raft.Peer) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.ID
	}
	return strings.Join(list, ", ")
}

// choose checks the node to go on with.
func (p *Plan) choose(r *request, freshest *Survivor, members []raft.Peer) error {
	at := slices.IndexFunc(r.survivors, func(s Survivor) bool { return s.ID == r.keep })
	if at < 0 {
		return errs.New(errs.Invalid, "the node %q to be kept is none of the survivors", r.keep)
	}
	p.kept = r.survivors[at]
	if p.kept.State != stopped {
		return errs.New(errs.Invalid, "the node %q runs (%s): stop its server, and run this on its machine with its folder", r.keep, p.kept.Where)
	}
	if with, without, open := p.unsure(r.survivors); open && !r.accept {
		return errs.New(errs.Precondition, "the node %q has a snapshot that was restored, and does not know whether the cluster took it; %q does not have it. "+
			"If the restore succeeded, keep one that has it, otherwise one that does not: -accept-loss gives up what only the others have", with, without)
	}
	if p.kept.compare(freshest) < 0 && !r.accept {
		return errs.New(errs.Precondition,
			"the node %q has the log up to entry %d of term %d, and %q up to entry %d of term %d: keep that one; -accept-loss gives up what only it has",
			r.keep, p.kept.Index, p.kept.Term, freshest.ID, freshest.Index, freshest.Term)
	}
	for _, m := range members {
		if m.ID == r.keep {
			p.peer = m
		}
	}
	if r.address != "" {
		p.peer.Address = r.address
	}
	p.Keep = r.keep
	return nil
}

// unsure names two survivors, one of them the node to be kept, of which one has a restored snapshot and does not know whether the cluster took it, and the
// other one does not have it. Who has more of the log than the first has the snapshot, or what the cluster went on with in its place: an
// entry of the same term is of the leader that restored it, and the leader of a later one had all that was acknowledged.
func (p *Plan) unsure(list []Survivor) (with, without string, open bool) {
	for i := range list {
		has, lacks := &p.kept, &list[i]
		if !has.Restored {
			has, lacks = lacks, has
		}
		if has.Restored && !lacks.Restored && has.compare(lacks) >= 0 {
			return has.ID, lacks.ID, true
		}
	}
	return "", "", false
}

// text tells what was found, and what to do next.
func (p *Plan) text() string {
	var b strings.Builder
	rows := [][]string{{"Node", "Last Term", "Last Index", "State", "Where"}}
	marked := false
	for _, s := range p.Survivors {
		state := s.State
		if s.Voteless {
			state += ", without its votes"
		}
		if s.Restored {
			state += ", with a restored snapshot"
		}
		if s.Migrated != "" {
			state, marked = state+", migrated to "+s.Migrated, true
		}
		rows = append(rows, []string{s.ID, fmt.Sprint(s.Term), fmt.Sprint(s.Index), state, s.Where})
	}
	for _, id := range p.Lost {
		rows = append(rows, []string{id, "-", "-", "lost", "-"})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += fmt.Sprintf("%-*s  ", widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	fmt.Fprintf(&b, "\nThe freshest is %q.", p.Freshest)
	if p.Members > 0 {
		fmt.Fprintf(&b, " The cluster had %d members, of which %d had to be there.", p.Members, p.Quorum)
	}
	b.WriteString("\n")
	if marked {
		b.WriteString(left)
	}
	return b.String()
}

const (
	left = `
The storage was migrated to another one while the servers used it. Unless the last step of that was not done, start the servers there,
and recover nothing here. To give this storage back, keep the freshest, and see "operator migrate -reset".
`
	loss = `
What was acknowledged is lost if none of the survivors has it: nobody is left who could tell. What the node that is kept
has in its log counts from now on, also what was never acknowledged.
`
	lookedAt = `
To go on with it, on its machine and with its server stopped:

    %s

Nothing was changed.
`
	done = `
%[1]q goes on alone: %[2]s/peers.json says so, and is read once, when it is started next. Now

 1. start the server of %[1]q and unseal it, with the keys that it always had. It is the active node then;
 2. look whether your data are there: operator raft list-peers shows one node;
 3. on every other machine, also those that come back later: stop the server, move its folder away, start it with an
    empty one, and let it join:

        %[3]s operator raft join <the API address of %[1]q>

    and unseal it. Never start one with its old folder: if enough of them met, they would go on as the old cluster,
    beside the new one. Keep the old folders until step 2 has shown that nothing is missing.
`
)
