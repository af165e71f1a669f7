package cli

import (
	"strconv"
	"time"

	"golang.org/x/term"
)

// globals are the values of the flags that commands share, completed from the
// environment.
type globals struct {
	address, agentAddress string
	caCert, caPath        string
	clientCert, clientKey string
	tlsServerName         string
	tlsSkipVerify         bool
	namespace             string
	wrapTTL               time.Duration
	mfa                   []string
	headers               map[string]string
	unlockKey             string
	disableRedirects      bool
	policyOverride        bool
	outputCurl, outputHCL bool
	nonInteractive        bool
	explain               bool
	field, format         string
	detailed              bool
	ptrs                  globalPtrs
}

// globalPtrs are the flags' targets until complete copies them.
type globalPtrs struct {
	str     map[string]*string
	boolean map[string]*bool
	wrapTTL *time.Duration
	mfa     *[]string
	headers *map[string]string
}

// declareShared declares the chosen groups of shared flags.
func declareShared(f *flagSet, groups int) *globals {
	g := &globals{ptrs: globalPtrs{str: map[string]*string{}, boolean: map[string]*bool{}}}
	str := func(name, arg, help string) { g.ptrs.str[name] = f.String(name, "", arg, help) }
	boolean := func(name, help string) { g.ptrs.boolean[name] = f.Bool(name, false, help) }
	if groups&withHTTP != 0 {
		str("address", "url", "Server to talk to (VAULT_ADDR; default https://127.0.0.1:8200).")
		str("agent-address", "url", "Agent to talk to instead of the server (VAULT_AGENT_ADDR).")
		str("ca-cert", "file", "CA certificate in PEM that signs the server's (VAULT_CACERT).")
		str("ca-path", "dir", "Folder of such CA certificates (VAULT_CAPATH).")
		str("client-cert", "file", "Own certificate in PEM (VAULT_CLIENT_CERT).")
		str("client-key", "file", "Its private key in PEM (VAULT_CLIENT_KEY).")
		str("tls-server-name", "name", "Name expected in the server's certificate (VAULT_TLS_SERVER_NAME).")
		boolean("tls-skip-verify", "Do not check the server's certificate (VAULT_SKIP_VERIFY).")
		str("namespace", "path", "Namespace to work in (VAULT_NAMESPACE).")
		f.also("ns")
		g.ptrs.wrapTTL = f.Duration("wrap-ttl", "Wrap the answer in a token that lives this long (VAULT_WRAP_TTL).")
		g.ptrs.mfa = f.Strings("mfa", "method[:code]", "Credentials for multi-factor checks (VAULT_MFA); may be repeated.")
		g.ptrs.headers = f.Map("header", "HTTP header to send; may be repeated.")
		str("unlock-key", "key", "Key that unlocks a locked namespace.")
		boolean("disable-redirects", "Do not follow redirects (VAULT_DISABLE_REDIRECTS).")
		boolean("policy-override", "Override soft-mandatory policies.")
		boolean("output-curl-string", "Print the request as a curl command instead of sending it.")
		boolean("output-policy", "Print the policy the request needs instead of sending it.")
		boolean("explain", "When the server refuses (403), ask it why and print the answer to standard error.")
		boolean("non-interactive", "Never ask on the terminal.")
	}
	if groups&withField != 0 {
		str("field", "name", "Print this field's value only.")
	}
	if groups&withFormat != 0 {
		str("format", "format", "How to print: table, json, yaml, raw or pretty (VAULT_FORMAT).")
		f.oneOf("table", "json", "yaml", "raw", "pretty")
		boolean("detailed", "Print more columns where the command has them (VAULT_DETAILED).")
	}
	for i := range f.infos {
		f.infos[i].shared = true
	}
	return g
}

// complete copies parsed flags and fills what is missing from the environment.
func (g *globals) complete(f *flagSet, env environ) {
	str := func(name, variable string) string {
		if p := g.ptrs.str[name]; p != nil && *p != "" {
			return *p
		}
		if variable == "" {
			return ""
		}
		return env.get(variable)
	}
	boolean := func(name, variable string) bool {
		if p := g.ptrs.boolean[name]; p != nil && f.given(name) {
			return *p
		}
		v, _ := strconv.ParseBool(env.get(variable)) // a bad value is reported where it counts, by the API client
		return v
	}
	g.address = str("address", "VAULT_ADDR")
	if f.given("agent-address") || !f.given("address") {
		// An address typed here counts more than an agent named in the environment.
		g.agentAddress = str("agent-address", "VAULT_AGENT_ADDR")
	}
	g.caCert = str("ca-cert", "VAULT_CACERT")
	g.caPath = str("ca-path", "VAULT_CAPATH")
	g.clientCert = str("client-cert", "VAULT_CLIENT_CERT")
	g.clientKey = str("client-key", "VAULT_CLIENT_KEY")
	g.tlsServerName = str("tls-server-name", "VAULT_TLS_SERVER_NAME")
	g.tlsSkipVerify = boolean("tls-skip-verify", "VAULT_SKIP_VERIFY")
	g.namespace = str("namespace", "VAULT_NAMESPACE")
	g.unlockKey = str("unlock-key", "")
	g.disableRedirects = boolean("disable-redirects", "VAULT_DISABLE_REDIRECTS")
	g.policyOverride = boolean("policy-override", "")
	g.outputCurl = boolean("output-curl-string", "")
	g.outputHCL = boolean("output-policy", "")
	g.explain = boolean("explain", "")
	g.nonInteractive = boolean("non-interactive", "")
	g.field = str("field", "")
	g.detailed = boolean("detailed", "VAULT_DETAILED")
	if g.format = str("format", "VAULT_FORMAT"); g.format == "" {
		g.format = "table"
	}
	if g.ptrs.wrapTTL != nil && f.given("wrap-ttl") {
		g.wrapTTL = *g.ptrs.wrapTTL
	} else if d, err := parseDuration(env.get("VAULT_WRAP_TTL")); err == nil {
		g.wrapTTL = d
	}
	if g.ptrs.mfa != nil {
		g.mfa = *g.ptrs.mfa
		if v := env.get("VAULT_MFA"); len(g.mfa) == 0 && v != "" {
			g.mfa = []string{v}
		}
		g.headers = *g.ptrs.headers
	}
}

// fder is what an *os.File has; a stream that is a terminal is one.
type fder interface{ Fd() uintptr }

func isTerminal(stream any) bool {
	f, ok := stream.(fder)
	return ok && term.IsTerminal(int(f.Fd()))
}
