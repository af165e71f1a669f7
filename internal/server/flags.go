package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"arca/internal/errs"
)

// options are the flags of the command.
type options struct {
	configs        []string
	logLevel       string
	logFormat      string
	logFile        string
	rotateAfter    time.Duration
	rotateBytes    int64
	rotateKeep     int
	recovery       bool
	exitOnShutdown bool
	testVerifyOnly bool
	dev            devOptions
}

type devOptions struct {
	on             bool
	tls            bool
	tlsDir         string
	rootToken      string
	address        string
	noStoreToken   bool
	noKV           bool
	kvV1           bool
	pluginDir      string
	clusterFile    string
	ha             bool
	transactional  bool
	threeNode      bool
	fourCluster    bool
	leasedKV       bool
	autoSeal       bool
	latency        int
	skipInit       bool
	consulExternal bool
}

// texts collects a flag that may be given several times.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

// Set implements flag.Value.
func (t *texts) Set(v string) error {
	*t = append(*t, v)
	return nil
}

// parseFlags reads the command line. The environment fills in what it leaves
// out. The error is flag.ErrHelp when help was asked for and written.
func parseFlags(args []string, env Env) (*options, error) {
	o, fs := &options{}, flag.NewFlagSet("server", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.declare(fs)
	err := fs.Parse(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			o.help(fs, env.Out)
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, errs.New(errs.Invalid, "unexpected argument %q; configuration files are given with -config=FILE", fs.Arg(0))
	}
	if v := env.Getenv("VAULT_DEV_ROOT_TOKEN_ID"); v != "" && o.dev.rootToken == "" {
		o.dev.rootToken = v
	}
	if v := env.Getenv("VAULT_DEV_LISTEN_ADDRESS"); v != "" && o.dev.address == "" {
		o.dev.address = v
	}
	return o, o.check()
}

func (o *options) declare(fs *flag.FlagSet) {
	fs.Var((*texts)(&o.configs), "config", "Read this `file`, or the .hcl and .json files of this folder. May be given several times; later ones win.")
	fs.StringVar(&o.logLevel, "log-level", "", "Log from this `level` on: trace, debug, info (the default), warn or error.")
	fs.StringVar(&o.logFormat, "log-format", "", "Write the log in this `format`: standard (the default) or json.")
	fs.StringVar(&o.logFile, "log-file", "", "Write the log to this `file` too.")
	fs.DurationVar(&o.rotateAfter, "log-rotate-duration", 0, "Put the log file aside after this `time`; 24h without it.")
	fs.Int64Var(&o.rotateBytes, "log-rotate-bytes", 0, "Put the log file aside when it has this many `bytes`.")
	fs.IntVar(&o.rotateKeep, "log-rotate-max-files", 0, "Keep this `number` of log files that were put aside; -1 keeps none, 0 all.")
	fs.BoolVar(&o.recovery, "recovery", false, "Not yet: recovery mode.")
	fs.BoolVar(&o.exitOnShutdown, "exit-on-core-shutdown", false, "Accepted; a node that seals keeps running, to be unsealed again.")
	fs.BoolVar(&o.testVerifyOnly, "test-verify-only", false, "Open everything as for a start, then stop.")

	d := &o.dev
	fs.BoolVar(&d.on, "dev", false, "Run a development server: in memory, initialised and unsealed. Never for production.")
	fs.BoolVar(&d.tls, "dev-tls", false, "Development server with TLS and a certificate of its own (implies -dev).")
	fs.StringVar(&d.tlsDir, "dev-tls-cert-dir", "", "`Folder` for that certificate; without it a temporary one.")
	fs.StringVar(&d.rootToken, "dev-root-token-id", "", "`Token` to use as the root token (or VAULT_DEV_ROOT_TOKEN_ID).")
	fs.StringVar(&d.address, "dev-listen-address", "", "`Address` to listen on (or VAULT_DEV_LISTEN_ADDRESS); 127.0.0.1:8200 without it.")
	fs.BoolVar(&d.noStoreToken, "dev-no-store-token", false, "Do not keep the root token in ~/.vault-token.")
	fs.BoolVar(&d.noKV, "dev-no-kv", false, "Do not mount KV at secret/.")
	fs.BoolVar(&d.kvV1, "dev-kv-v1", false, "Mount KV version 1 at secret/.")
	fs.StringVar(&d.pluginDir, "dev-plugin-dir", "", "Not yet: `folder` of external plugins.")
	fs.StringVar(&d.clusterFile, "dev-cluster-json", "", "Write address, unseal key and root token to this `file`, as JSON.")
	fs.BoolVar(&d.skipInit, "dev-skip-init", false, "Leave the development server uninitialised.")
	fs.BoolVar(&d.ha, "dev-ha", false, "Accepted: the development server has one node.")
	fs.BoolVar(&d.transactional, "dev-transactional", false, "Accepted: storage always has transactions.")
	fs.BoolVar(&d.consulExternal, "dev-consul", false, "Not supported.")
	fs.BoolVar(&d.threeNode, "dev-three-node", false, "Not yet: a cluster of three.")
	fs.BoolVar(&d.fourCluster, "dev-four-cluster", false, "Not yet: four clusters.")
	fs.BoolVar(&d.leasedKV, "dev-leased-kv", false, "Not supported: KV with leases.")
	fs.BoolVar(&d.autoSeal, "dev-auto-seal", false, "Not yet: a seal that opens by itself.")
	fs.IntVar(&d.latency, "dev-latency", 0, "Not supported: milliseconds to delay storage by.")
}

// check refuses what this version cannot do.
func (o *options) check() error {
	d := &o.dev
	d.on = d.on || d.tls || d.ha || d.transactional || d.threeNode || d.fourCluster
	later := func(flag, what string) error {
		return errs.New(errs.Unsupported, "%s: %s with a later version of arca", flag, what)
	}
	switch {
	case o.recovery:
		return later("-recovery", "recovery mode comes")
	case d.pluginDir != "":
		return later("-dev-plugin-dir", "external plugins come")
	case d.threeNode:
		return later("-dev-three-node", "clusters come")
	case d.fourCluster:
		return later("-dev-four-cluster", "clusters come")
	case d.autoSeal:
		return later("-dev-auto-seal", "seals that open by themselves come")
	case d.leasedKV:
		return errs.New(errs.Unsupported, "-dev-leased-kv is not supported")
	case d.consulExternal:
		return errs.New(errs.Unsupported, "-dev-consul is not supported")
	case d.latency != 0:
		return errs.New(errs.Unsupported, "-dev-latency is not supported")
	case d.tlsDir != "" && !d.tls:
		return errs.New(errs.Invalid, "-dev-tls-cert-dir needs -dev-tls")
	case !d.on && len(o.configs) == 0:
		return errs.New(errs.Invalid, "give a configuration with -config=FILE, or start a development server with -dev")
	}
	return nil
}

func (o *options) help(fs *flag.FlagSet, out io.Writer) {
	fmt.Fprint(out, `Usage: vault server [options]

  Runs the server. A server needs a configuration:

      $ vault server -config=/etc/vault/vault.hcl

  To try it out, run one in memory that is ready at once:

      $ vault server -dev -dev-root-token-id=root

Options:

`)
	fs.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Usage, "Not ") || strings.HasPrefix(f.Usage, "Accepted") || f.Name == "test-verify-only" {
			return
		}
		name, usage := flag.UnquoteUsage(f)
		if name != "" {
			name = "=<" + name + ">"
		}
		fmt.Fprintf(out, "  -%s%s\n      %s\n\n", f.Name, name, usage)
	})
}
