package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/seal"
)

const devAddress = "127.0.0.1:8200"

// A devServer is what a development server has beyond a normal one.
type devServer struct {
	share     string // the unseal key, base64
	rootToken string
	tlsDir    string // of the certificate, "" without TLS
	caFile    string
	stored    error // why the token is not in ~/.vault-token
	kept      bool
}

// configure lays the development server's configuration under that of files.
func (d *devServer) configure(cfg *config.Config, o *devOptions) error {
	if cfg.Storage == nil {
		cfg.Storage = &config.Storage{Type: "inmem", Options: map[string]string{}}
	}
	cfg.DisableMlock, cfg.UI = true, true
	address := o.address
	if address == "" {
		address = devAddress
	}
	if o.tls && d.caFile == "" {
		if err := d.makeCertificate(o.tlsDir, address); err != nil {
			return err
		}
	}
	// What is shown is Vault's text of this listener.
	l := config.Listener{
		Type: "tcp", Pos: source.Pos{File: "-dev"},
		Raw: map[string]any{
			"address": devAddress, "tls_disable": !o.tls, "proxy_protocol_behavior": "allow_authorized",
			"proxy_protocol_authorized_addrs": devAddress,
		},
	}
	l.Address, l.TLSDisable = address, !o.tls
	l.ProxyBehavior, l.ProxyAddrs = "allow_authorized", []string{devAddress}
	if o.tls {
		l.TLSCertFile, l.TLSKeyFile = d.file("vault-cert.pem"), d.file("vault-key.pem")
		l.Raw["tls_cert_file"], l.Raw["tls_key_file"] = l.TLSCertFile, l.TLSKeyFile
	}
	cfg.Listeners = append(config.Listeners{l}, cfg.Listeners...)
	return nil
}

func (d *devServer) file(name string) string { return filepath.Join(d.tlsDir, name) }

// setUpDev initialises and unseals the server and keeps its root token.
func (n *node) setUpDev(ctx context.Context) error {
	d, o := n.dev, &n.opts.dev
	if o.skipInit {
		return nil
	}
	m := n.core.SealManager()
	ready, err := m.Initialised(ctx)
	if err != nil {
		return err
	}
	if ready {
		return errs.New(errs.Invalid, "the storage of this development server is initialised already; start it without -dev")
	}
	ini, err := m.Init(ctx, seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		return err
	}
	d.share = base64.StdEncoding.EncodeToString(ini.Shares[0])
	if m.Auto() {
		err = m.OpenByItself(ctx)
	} else {
		_, err = m.Unseal(ctx, ini.Shares[0], false)
	}
	if err != nil {
		return err
	}
	if d.rootToken, err = n.core.DevSetup(ctx, string(ini.RootToken), o.rootToken, !o.noKV && !o.kvV1); err != nil {
		return err
	}
	if o.kvV1 && !o.noKV {
		if err := n.mountKVV1(ctx); err != nil {
			return err
		}
	}
	if !o.noStoreToken {
		d.stored = keepToken(n.env.Getenv("HOME"), d.rootToken)
		d.kept = d.stored == nil
	}
	if o.clusterFile != "" {
		return n.writeCluster(o.clusterFile)
	}
	return nil
}

// mountKVV1 mounts version 1 at secret/, the way a client would.
func (n *node) mountKVV1(ctx context.Context) error {
	params, err := param.ParseObject([]byte(`{"type":"kv","description":"key/value secret storage","options":{"version":"1"}}`))
	if err != nil {
		return err
	}
	_, err = n.core.Handle(ctx, &engine.Request{
		ID: "dev", Op: engine.OpUpdate, Path: "sys/mounts/secret", Token: n.dev.rootToken, Params: params,
	})
	return err
}

// keepToken writes the token where the command line looks for it.
func keepToken(home, token string) error {
	if home == "" {
		return errs.New(errs.Invalid, "HOME is not set")
	}
	f, err := os.CreateTemp(home, ".vault-token.*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(token)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(home, ".vault-token"))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error counts
	}
	return err
}

// writeCluster writes what tools need to reach the server.
func (n *node) writeCluster(path string) error {
	type nodeInfo struct {
		NodeID  string `json:"node_id"`
		APIAddr string `json:"api_address"`
	}
	text, err := json.MarshalIndent(map[string]any{
		"nodes":        []nodeInfo{{"core-0", n.apiAddr()}},
		"ca_cert_path": n.dev.caFile,
		"root_token":   n.dev.rootToken,
		"unseal_keys":  []string{n.dev.share},
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return errs.New(errs.Invalid, "-dev-cluster-json: %w", err)
	}
	return nil
}

// banner writes what a user of a development server needs. The first warning
// and the lines of VAULT_ADDR, Unseal Key and Root Token are those of Vault, as
// scripts read them.
func (d *devServer) banner(out io.Writer, addr string) {
	var b strings.Builder
	b.WriteString(`WARNING! dev mode is enabled! In this mode, Vault runs entirely in-memory
and is initialised and unsealed already, with a single key. Everything in it
is gone when it ends: use it to try things out and to write programs against,
never for real secrets.

In another terminal, tell the command line where the server is:

`)
	fmt.Fprintf(&b, "    $ export VAULT_ADDR='%s'\n", addr)
	if d.caFile != "" {
		fmt.Fprintf(&b, "    $ export VAULT_CACERT='%s'\n", d.caFile)
	}
	if d.rootToken != "" {
		b.WriteString("\nThe key and the token, should you want to seal, unseal or log in:\n\n")
		fmt.Fprintf(&b, "Unseal Key: %s\nRoot Token: %s\n", d.share, d.rootToken)
	}
	switch {
	case d.kept:
		b.WriteString("\nThe token is kept in ~/.vault-token; there is no need to log in.\n")
	case d.stored != nil:
		fmt.Fprintf(&b, "\nThe token could not be kept in ~/.vault-token: %v\n", d.stored)
	}
	b.WriteString("\nDevelopment mode is NOT for production.\n\n")
	_, _ = io.WriteString(out, b.String())
}
