// Package recovery is the command `operator raft recover`: it goes on with one node of a raft cluster of which most voters are lost for good.
//
// It looks at what is left, at folders of servers that are stopped and by the API at those that run without a leader; shows how much of the log
// each has; and, when told which to keep, has that one begin anew alone. It refuses whatever would lose more than it must: a node with less than
// another, nodes that nobody has accounted for, a cluster that could still elect a leader.
package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"arca/internal/errs"
	"arca/internal/logging"
	"arca/internal/seal"
	"arca/internal/server/stores"
	"arca/internal/storage/raft"
)

// Exit codes, as those of other commands.
const (
	exitOK      = 0
	exitUsage   = 1
	exitFailure = 2
)

const usage = `Usage: vault operator raft recover [options] SURVIVOR...

  Goes on with one node of a raft cluster that has lost most of its voters for
  good. As long as more than half of them can come back, start those instead.

  A SURVIVOR is the storage folder of a node whose server is stopped, or the
  address of one that runs, sealed or without a leader. First look:

      $ vault operator raft recover /var/lib/arca https://10.0.0.6:8200

  shows how much of the log each has. Every other member must be named as lost.
  Then, on the machine of the freshest, with its server stopped and as the user
  that it runs as:

      $ vault operator raft recover -keep=node1 -lost=node3 \
            /var/lib/arca https://10.0.0.6:8200

  It writes peers.json into that folder, and says what to do next. The folder is
  not changed otherwise; a copy of it, made before, does no harm.

  Addresses are asked with the VAULT_CACERT, VAULT_CLIENT_CERT and the like of
  the environment. No token is needed.

Options:

`

// list is a flag that may be given several times.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(v string) error {
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

// askTime bounds how long a node that runs may take to answer.
const askTime = 10 * time.Second

// Command runs the command and returns the exit code.
func Command(ctx context.Context, args []string, out, errOut io.Writer) int {
	var r request
	fs := flag.NewFlagSet("operator raft recover", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&r.keep, "keep", "", "The `node` to go on with, by its id. Without it, nothing is changed.")
	fs.Var((*list)(&r.lost), "lost", "A `node` that is gone for good, by its id. May be repeated.")
	fs.StringVar(&r.address, "cluster-address", "", "The `host:port` at which others will reach the node that is kept, if it is another than before.")
	fs.BoolVar(&r.accept, "accept-loss", false, "Keep a node although another survivor has more of the log, or only some have a snapshot that was restored.")
	format := fs.String("format", "table", "table or json.")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), usage)
		fs.PrintDefaults()
	}
	if slices.Contains(args, "-h") || slices.Contains(args, "-help") || slices.Contains(args, "--help") {
		fs.SetOutput(out) // who asks for it wants to read it
		fs.Usage()
		return exitOK
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case fs.NArg() == 0:
		fmt.Fprintln(errOut, "Name the nodes that are left: the folders of those that are stopped, the addresses of those that run. Help: -h")
		return exitUsage
	case *format != "table" && *format != "json":
		fmt.Fprintf(errOut, "Invalid output format: %s\n", *format)
		return exitUsage
	}
	if r.address != "" {
		if host, port, err := net.SplitHostPort(r.address); err != nil || host == "" || port == "" {
			fmt.Fprintf(errOut, "-cluster-address must be a host and a port, as in 10.0.0.5:8201, not %q\n", r.address)
			return exitUsage
		}
	}
	log, err := logging.New(logging.Config{Level: "error", Out: errOut})
	if err != nil {
		fmt.Fprintln(errOut, err)
		return exitUsage
	}
	defer func() { _ = log.Close() }() // nowhere to report it
	c := &command{request: r, log: log.Named("raft")}
	p, err := c.run(ctx, fs.Args())
	show(p, err, *format, fs.Args(), out)
	if err != nil {
		fmt.Fprintf(errOut, "Error recovering the raft cluster: %v\n", err)
		return exitFailure
	}
	return exitOK
}

type command struct {
	request
	log *slog.Logger
}

// run looks, judges and, if told to, acts.
func (c *command) run(ctx context.Context, where []string) (p *Plan, err error) {
	for _, w := range where {
		s, done, err := c.look(ctx, w)
		if err != nil {
			return nil, err
		}
		if done != nil { // the folder stays ours until the end: nobody starts the server meanwhile
			defer func() { _ = done() }() // nothing was written
		}
		c.survivors = append(c.survivors, s)
	}
	if p, err = plan(&c.request); err != nil || p.Keep == "" {
		return p, err
	}
	if err := raft.WritePeers(p.kept.Where, p.peer); err != nil {
		return p, err
	}
	p.Written = true
	return p, nil
}

func (c *command) look(ctx context.Context, where string) (Survivor, func() error, error) {
	if strings.Contains(where, "://") {
		s, err := ask(ctx, where)
		return s, nil, err
	}
	return c.open(ctx, where)
}

// open looks at the folder of a node that is stopped.
func (c *command) open(ctx context.Context, dir string) (Survivor, func() error, error) {
	s := Survivor{Where: filepath.Clean(dir), State: stopped}
	if err := owned(dir); err != nil {
		return s, nil, err
	}
	var err error
	if s.ID, err = stores.NodeID(dir, ""); err != nil {
		return s, nil, errs.New(errs.Invalid, "%q: %w", dir, err)
	}
	store, v, err := raft.OpenSurvey(dir, s.ID, c.log)
	if err != nil {
		return s, nil, errs.New(errs.KindOf(err), "%q: %w (is its server still running?)", dir, err)
	}
	s.Index, s.Term, s.Applied, s.Voteless, s.Restored, s.Peers = v.Index, v.Term, v.Applied, v.Voteless, v.Restored, v.Peers
	identity, left, err := seal.IdentifyLeft(ctx, store) // one that is marked can be given back, when it is alone
	if err != nil {
		return s, nil, errors.Join(errs.New(errs.KindOf(err), "%q: %w", dir, err), store.Close())
	}
	s.ClusterID = identity.ID
	if left != nil {
		s.Migrated = left.To
	}
	return s, store.Close, nil
}

// owned refuses to open the folder as another user: what is written then the server could not read.
func owned(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return errs.New(errs.Invalid, "%w", err)
	}
	if !fi.IsDir() {
		return errs.New(errs.Invalid, "%q is no folder", dir)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return errs.New(errs.Invalid, "the folder %q belongs to the user %d: run this as the user that the server runs as (sudo -u \\#%d …)", dir, st.Uid, st.Uid)
	}
	return nil
}

// ask asks a node that runs.
func ask(ctx context.Context, url string) (Survivor, error) {
	s := Survivor{Where: url}
	conf := api.DefaultConfig()
	if conf.Error != nil {
		return s, errs.New(errs.Invalid, "the environment: %w", conf.Error)
	}
	conf.Address, conf.MaxRetries, conf.Timeout = strings.TrimSuffix(url, "/"), 0, askTime
	client, err := api.NewClient(conf)
	if err != nil {
		return s, errs.New(errs.Invalid, "%s: %w", url, err)
	}
	client.ClearToken()
	client.ClearNamespace()
	answer, err := client.Logical().ReadRawWithContext(ctx, "sys/storage/raft/freshness")
	if answer != nil {
		defer func() { _ = answer.Body.Close() }() // only read
	}
	if err != nil {
		return s, errs.New(errs.Unavailable, "ask %s: %w", url, err)
	}
	var body struct {
		Data struct {
			Survivor
			Sealed bool   `json:"sealed"`
			Leader string `json:"leader_id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&body); err != nil || body.Data.ID == "" {
		return s, errs.New(errs.Failed, "%s does not tell how fresh it is: is it a node of arca with raft storage?", url)
	}
	s = body.Data.Survivor
	s.Where, s.Leader, s.State = url, body.Data.Leader, "leaderless"
	if body.Data.Sealed {
		s.State = "sealed"
	}
	return s, nil
}

// show writes what is known, also when it was refused.
func show(p *Plan, err error, format string, where []string, out io.Writer) {
	switch {
	case p == nil:
		return
	case format == "json":
		text, _ := json.MarshalIndent(p, "", "  ") // plain fields
		fmt.Fprintf(out, "%s\n", text)
		return
	}
	fmt.Fprint(out, p.text())
	switch {
	case p.Written:
		fmt.Fprint(out, loss)
		fmt.Fprintf(out, done, p.Keep, p.kept.Where, "vault")
	case err == nil:
		fmt.Fprint(out, loss)
		fmt.Fprintf(out, lookedAt, p.next(where))
	}
}

// next is the command that goes on with the freshest node.
func (p *Plan) next(where []string) string {
	text := "vault operator raft recover -keep=" + p.Freshest
	for _, id := range p.Lost {
		text += " -lost=" + id
	}
	for i, s := range p.Survivors {
		if s.ID == p.Freshest && s.State != stopped {
			text += " <the storage folder of " + s.ID + ">"
			continue
		}
		text += " " + where[i]
	}
	return text
}
