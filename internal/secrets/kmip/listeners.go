package kmip

import (
	"context"
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

const (
	listenerDir  = "listener/"
	maxListeners = 32
)

// A listener is one with a name, an authority and clients of its own.
type listener struct {
	Version   int      `json:"v"`
	CA        string   `json:"ca"`
	Address   string   `json:"address"`
	Hostnames []string `json:"hostnames,omitempty"`
	IPs       []string `json:"ips,omitempty"`
	Clients   []string `json:"clients,omitempty"` // names of further authorities
	Legacy    bool     `json:"legacy,omitempty"`  // the mount's own authority is believed, too
	MinTLS    string   `json:"min_tls"`
	MaxTLS    string   `json:"max_tls,omitempty"`
	Suites    []string `json:"suites,omitempty"`
	Proxies   []string `json:"proxies,omitempty"`
}

type listenerIn struct {
	Name string `api:"name" help:"Name of the listener."`
}

type writeListenerIn struct {
	listenerIn
	CA        *string   `api:"ca" help:"Name of the generated authority that issues its certificate."`
	Address   *string   `api:"address" help:"Address to listen at, host:port."`
	Hostnames *[]string `api:"server_hostnames" help:"DNS names of its certificate."`
	IPs       *[]string `api:"server_ips" help:"IP addresses of its certificate."`
	Clients   *[]string `api:"additional_client_cas" help:"Names of further authorities whose clients are believed."`
	Legacy    *bool     `api:"also_use_legacy_ca" help:"Believe clients of the mount's own authority, too."`
	MinTLS    *string   `api:"tls_min_version" help:"Least version of TLS: tls12 or tls13."`
	MaxTLS    *string   `api:"tls_max_version" help:"Highest version of TLS."`
	Suites    *[]string `api:"tls_cipher_suites" help:"Cipher suites of TLS 1.2."`
	Proxies   *[]string `api:"proxy_protocol_authorized_addrs" help:"Addresses and networks of balancers that say by the PROXY protocol whose connection it is."`
}

func (l *listener) check(tx storage.Tx) error {
	if l.CA == "" || l.Address == "" {
		return errs.New(errs.Invalid, "ca and address are required")
	}
	n, err := getNamed(tx, l.CA)
	if errors.Is(err, errNotFound) {
		return errs.New(errs.Invalid, "there is no authority %q", l.CA)
	}
	if err != nil {
		return err
	}
	if n.Imported {
		return errs.New(errs.Invalid, "the authority %q was imported: it cannot issue a listener's certificate", l.CA)
	}
	if c, err := get[config](tx, configKey); err == nil && c.CertifyCA == l.CA {
		return errs.New(errs.Invalid, "the authority %q issues certificates for objects (certify_ca of config): a listener needs another", l.CA)
	} else if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	if len(l.Clients) > maxListeners {
		return errs.New(errs.Invalid, "at most %d authorities can be named", maxListeners)
	}
	for _, name := range l.Clients {
		if _, err := getNamed(tx, name); errors.Is(err, errNotFound) {
			return errs.New(errs.Invalid, "additional_client_cas: there is no authority %q", name)
		} else if err != nil {
			return err
		}
	}
	probe := &config{Listen: []string{l.Address}, Hostnames: l.Hostnames, IPs: l.IPs, MinTLS: l.MinTLS, MaxTLS: l.MaxTLS, Suites: l.Suites, Proxies: l.Proxies, ClientTTL: namedLife}
	if err := probe.check(&configIn{}); err != nil {
		return err
	}
	l.IPs = probe.IPs
	return nil
}

func (e *Engine) writeListener(_ context.Context, call *engine.Call, in writeListenerIn) (*engine.Response, error) {
	if err := e.checkName("listener", in.Name); err != nil {
		return nil, err
	}
	l, err := get[listener](call.Tx, listenerDir+in.Name)
	if errors.Is(err, errNotFound) {
		l = &listener{Version: 1, MinTLS: "tls12", IPs: []string{"127.0.0.1", "::1"}}
		n, err := count(call.Tx, listenerDir, maxListeners)
		if err != nil {
			return nil, err
		}
		if n >= maxListeners {
			return nil, errs.New(errs.Invalid, "a mount has at most %d listeners", maxListeners)
		}
	} else if err != nil {
		return nil, err
	}
	param.Take(&l.CA, in.CA)
	param.Take(&l.Address, in.Address)
	param.Take(&l.Hostnames, in.Hostnames)
	param.Take(&l.IPs, in.IPs)
	param.Take(&l.Clients, in.Clients)
	param.Take(&l.Legacy, in.Legacy)
	param.Take(&l.MinTLS, in.MinTLS)
	param.Take(&l.MaxTLS, in.MaxTLS)
	param.Take(&l.Suites, in.Suites)
	param.Take(&l.Proxies, in.Proxies)
	if err := l.check(call.Tx); err != nil {
		return nil, err
	}
	taken, err := addresses(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	if slices.Contains(taken, l.Address) {
		return nil, errs.New(errs.Invalid, "another listener of the mount listens at %s", l.Address)
	}
	if call.Asked == nil {
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			return true, e.servers.tryAddresses(ctx, call.Mount.ID, []string{l.Address})
		})
	}
	if err := storage.PutJSON(call.Tx, listenerDir+in.Name, l); err != nil {
		return nil, err
	}
	e.announce(call)
	return nil, nil
}

// addresses are those of the mount's listeners, but for that with a name.
func addresses(tx storage.Tx, but string) (out []string, err error) {
	c, err := get[config](tx, configKey)
	if err == nil {
		out = slices.Clone(c.Listen)
	} else if !errors.Is(err, errNotFound) {
		return nil, err
	}
	all, err := listeners(tx)
	for name, l := range all {
		if name != but {
			out = append(out, l.Address)
		}
	}
	return out, err
}

// listeners are all that have a name.
func listeners(tx storage.Tx) (map[string]*listener, error) {
	out := map[string]*listener{}
	for kv, err := range tx.Scan(listenerDir, "") {
		if err != nil {
			return nil, err
		}
		l, _, err := decoded[listener](kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		out[kv.Key[len(listenerDir):]] = l
	}
	return out, nil
}

func (e *Engine) readListener(_ context.Context, call *engine.Call, in listenerIn) (*engine.Response, error) {
	l, err := get[listener](call.Tx, listenerDir+in.Name)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"ca": l.CA, "address": l.Address, "server_hostnames": param.OrEmpty(l.Hostnames), "server_ips": param.OrEmpty(l.IPs),
		"additional_client_cas": param.OrEmpty(l.Clients), "also_use_legacy_ca": l.Legacy, "tls_min_version": l.MinTLS, "tls_max_version": l.MaxTLS,
		"tls_cipher_suites": param.OrEmpty(l.Suites), "proxy_protocol_authorized_addrs": param.OrEmpty(l.Proxies),
	}), nil
}

func (e *Engine) listListeners(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	return list(call.Tx, listenerDir, in)
}

func (e *Engine) deleteListener(_ context.Context, call *engine.Call, in listenerIn) (*engine.Response, error) {
	if err := call.Tx.Delete(listenerDir + in.Name); err != nil {
		return nil, err
	}
	e.announce(call)
	return nil, nil
}

// A socket is an address to listen at, with the settings of its TLS.
type socket struct {
	address string
	conf    *config // of TLS
	names   *config // hostnames and IP addresses, and the kind of its key
	issuer  *authority
	clients [][]byte // certificates of authorities
}

// plan is what a mount listens at, by what is stored.
func plan(tx storage.Tx) (c *config, out []socket, err error) {
	c, err = storage.GetJSON[config](tx, configKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, nil, err
	}
	var a *authority
	if err == nil {
		if a, err = storage.GetJSON[authority](tx, caKey); err != nil {
			return nil, nil, err
		}
		for _, address := range c.Listen {
			out = append(out, socket{address, c, c, a, [][]byte{a.Intermediate, a.Root}})
		}
	} else {
		c = nil
	}
	all, err := listeners(tx)
	if err != nil {
		return nil, nil, err
	}
	if c == nil && len(all) == 0 {
		return nil, nil, storage.ErrNotFound
	}
	for _, l := range all {
		s, err := l.socket(tx, a)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, s)
	}
	if c == nil {
		c = &config{}
	}
	return c, out, nil
}

func (l *listener) socket(tx storage.Tx, legacy *authority) (s socket, err error) {
	n, err := getNamed(tx, l.CA)
	if err != nil {
		return s, err
	}
	s = socket{address: l.Address, conf: &config{MinTLS: l.MinTLS, MaxTLS: l.MaxTLS, Suites: l.Suites, Proxies: l.Proxies}, names: &config{Hostnames: l.Hostnames, IPs: l.IPs, CA: n.Kind}}
	s.issuer = n.authority()
	now := nowUTC()
	s.clients = n.believed(now)
	for _, name := range l.Clients {
		other, err := getNamed(tx, name)
		if err != nil {
			return s, err
		}
		s.clients = append(s.clients, other.believed(now)...)
	}
	if l.Legacy && legacy != nil {
		s.clients = append(s.clients, legacy.Intermediate, legacy.Root)
	}
	return s, nil
}

// planned reports whether an address is among those of some sockets.
func planned(list []socket, address string) bool {
	return slices.ContainsFunc(list, func(s socket) bool { return s.address == address })
}
