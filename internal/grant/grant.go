// Package grant is what the roles of all auth methods say about the tokens that
// a login gets: the parameters token_* of Vault's API
// (https://developer.hashicorp.com/vault/api-docs/auth/approle#tokens has them),
// their older names, their checks, and the engine.Auth that comes of them.
package grant

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
)

// Params are the parameters as they come in; nil is one that is not given. It is
// embedded in the input of a role.
type Params struct {
	TTL             *time.Duration `api:"token_ttl" help:"How long tokens live at first."`
	MaxTTL          *time.Duration `api:"token_max_ttl" help:"How long tokens can live by renewal."`
	Policies        *[]string      `api:"token_policies" help:"Policies of the tokens."`
	BoundCIDRs      *[]string      `api:"token_bound_cidrs" help:"Addresses from which tokens may be used."`
	ExplicitMaxTTL  *time.Duration `api:"token_explicit_max_ttl" help:"How long tokens can ever live."`
	NoDefaultPolicy *bool          `api:"token_no_default_policy" help:"Leave the policy default out."`
	NumUses         *int           `api:"token_num_uses" help:"How often tokens can be used; 0 is without limit."`
	Period          *time.Duration `api:"token_period" help:"Make periodic tokens, which live so long after each renewal."`
	Type            *string        `api:"token_type" help:"service, batch or default."`
}

// Legacy are older names that some methods have. It is embedded beside Params.
type Legacy struct {
	Policies   *[]string      `api:"policies" help:"Older name of token_policies."`
	TTL        *time.Duration `api:"ttl" help:"Older name of token_ttl."`
	MaxTTL     *time.Duration `api:"max_ttl" help:"Older name of token_max_ttl."`
	BoundCIDRs *[]string      `api:"bound_cidrs" help:"Older name of token_bound_cidrs."`
}

// A Grant is stored within a role. The zero value grants a token with the
// policy default, as the mount is tuned.
type Grant struct {
	TTL             time.Duration    `json:"ttl,omitempty"`
	MaxTTL          time.Duration    `json:"max_ttl,omitempty"`
	Policies        []string         `json:"policies,omitempty"`
	BoundCIDRs      []netip.Prefix   `json:"cidrs,omitempty"`
	ExplicitMaxTTL  time.Duration    `json:"explicit_max_ttl,omitempty"`
	NoDefaultPolicy bool             `json:"no_default,omitempty"`
	NumUses         int              `json:"num_uses,omitempty"`
	Period          time.Duration    `json:"period,omitempty"`
	Type            engine.TokenType `json:"type,omitempty"`
	// Older names that were used, which are shown beside the newer ones.
	Old []string `json:"old,omitempty"`
}

// Names of the older parameters.
const (
	OldPolicies   = "policies"
	OldTTL        = "ttl"
	OldMaxTTL     = "max_ttl"
	OldBoundCIDRs = "bound_cidrs"
	OldPeriod     = "period"
)

// Apply changes g by what was given; the rest stays. Warnings are about what was
// taken to mean something else. On an error, of kind Invalid, g is not to be used.
func (g *Grant) Apply(p *Params, l *Legacy) (warnings []string, err error) {
	set(g, &g.TTL, p.TTL, l.TTL, OldTTL)
	set(g, &g.MaxTTL, p.MaxTTL, l.MaxTTL, OldMaxTTL)
	set(g, &g.Policies, p.Policies, l.Policies, OldPolicies)
	g.Policies = Clean(g.Policies)
	var texts []string
	if set(g, &texts, p.BoundCIDRs, l.BoundCIDRs, OldBoundCIDRs) {
		if g.BoundCIDRs, err = ParsePrefixes(texts); err != nil {
			return nil, err
		}
	}
	set(g, &g.ExplicitMaxTTL, p.ExplicitMaxTTL, nil, "")
	set(g, &g.NoDefaultPolicy, p.NoDefaultPolicy, nil, "")
	set(g, &g.NumUses, p.NumUses, nil, "")
	set(g, &g.Period, p.Period, nil, OldPeriod)
	if p.Type != nil {
		if warnings, err = g.setType(*p.Type); err != nil {
			return nil, err
		}
	}
	return warnings, g.check()
}

// SetPeriod takes the period by its older name.
func (g *Grant) SetPeriod(old *time.Duration) { set(g, &g.Period, nil, old, OldPeriod) }

// set takes the newer parameter, else the older one, and reports whether either
// was given.
func set[T any](g *Grant, to *T, newer, older *T, name string) bool {
	switch {
	case newer != nil:
		*to = *newer
		g.Old = slices.DeleteFunc(slices.Clone(g.Old), func(s string) bool { return s == name })
	case older != nil:
		*to = *older
		if !slices.Contains(g.Old, name) {
			g.Old = append(slices.Clone(g.Old), name)
		}
	default:
		return false
	}
	return true
}

// Clean brings names of policies into the stored form.
func Clean(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if n = strings.ToLower(strings.TrimSpace(n)); n != "" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g *Grant) setType(name string) (warnings []string, err error) {
	switch name {
	case "", "default":
		g.Type = engine.TokenDefault
	case "service":
		g.Type = engine.TokenService
	case "batch":
		g.Type = engine.TokenBatch
	case "default-service":
		g.Type = engine.TokenService
		warnings = []string{"default-service has no useful meaning; adjusting to service"}
	case "default-batch":
		g.Type = engine.TokenBatch
		warnings = []string{"default-batch has no useful meaning; adjusting to batch"}
	default:
		return nil, errs.New(errs.Invalid, "invalid 'token_type' value %q", name)
	}
	return warnings, nil
}

func (g *Grant) check() error {
	switch {
	case g.Type == engine.TokenBatch && g.Period > 0:
		return errs.New(errs.Invalid, "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens")
	case g.Type == engine.TokenBatch && g.NumUses != 0:
		return errs.New(errs.Invalid, "'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count")
	case g.MaxTTL > 0 && g.TTL > g.MaxTTL:
		return errs.New(errs.Invalid, "'token_ttl' cannot be greater than 'token_max_ttl'")
	case g.NumUses < 0:
		return errs.New(errs.Invalid, "'token_num_uses' cannot be negative")
	}
	return engine.CheckPolicies(g.Policies)
}

// ParsePrefixes reads addresses and CIDR blocks.
func ParsePrefixes(texts []string) ([]netip.Prefix, error) {
	if len(texts) > engine.MaxPrefixes {
		return nil, errs.New(errs.Invalid, "at most %d addresses and CIDR blocks can bind tokens, these are %d", engine.MaxPrefixes, len(texts))
	}
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, errs.New(errs.Invalid,
				"error parsing address %q: Unable to convert %q to an IPv4 or IPv6 address, or a UNIX Socket", text, text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// ShowPrefixes writes prefixes as the API shows them: a single address without
// its length.
func ShowPrefixes(list []netip.Prefix) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return out
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Show adds the parameters to what is told of a role, with the older names that
// were used.
func (g *Grant) Show(out map[string]any) {
	cidrs := ShowPrefixes(g.BoundCIDRs)
	out["token_ttl"], out["token_max_ttl"] = seconds(g.TTL), seconds(g.MaxTTL)
	out["token_policies"], out["token_bound_cidrs"] = list(g.Policies), cidrs
	out["token_explicit_max_ttl"], out["token_no_default_policy"] = seconds(g.ExplicitMaxTTL), g.NoDefaultPolicy
	out["token_num_uses"], out["token_period"], out["token_type"] = g.NumUses, seconds(g.Period), g.Type.String()
	for _, name := range g.Old {
		switch name {
		case OldPolicies:
			out[name] = list(g.Policies)
		case OldTTL:
			out[name] = seconds(g.TTL)
		case OldMaxTTL:
			out[name] = seconds(g.MaxTTL)
		case OldBoundCIDRs:
			out[name] = cidrs
		case OldPeriod:
			out[name] = seconds(g.Period)
		}
	}
}

// Auth is the token that a login by this grant asks for.
func (g *Grant) Auth() *engine.Auth {
	return &engine.Auth{
		Policies: slices.Clone(g.Policies), NoDefaultPolicy: g.NoDefaultPolicy, TTL: g.TTL, MaxTTL: g.MaxTTL, Period: g.Period,
		ExplicitMaxTTL: g.ExplicitMaxTTL, NumUses: g.NumUses, Type: g.Type, BoundCIDRs: slices.Clone(g.BoundCIDRs), Renewable: true,
	}
}

// Renew sets what the renewal of a token by this grant is held to, and all that a
// login which waited for its second factor is given.
func (g *Grant) Renew(auth *engine.Auth) {
	auth.TTL, auth.MaxTTL, auth.Period = g.TTL, g.MaxTTL, g.Period
	auth.Policies, auth.NoDefaultPolicy, auth.BoundCIDRs = slices.Clone(g.Policies), g.NoDefaultPolicy, slices.Clone(g.BoundCIDRs)
	auth.ExplicitMaxTTL, auth.NumUses, auth.Type = g.ExplicitMaxTTL, g.NumUses, g.Type
}

// Covers reports whether a token with these policies is still what the grant
// gives; the policy default does not count.
func (g *Grant) Covers(policies []string) bool {
	plain := func(in []string) []string {
		return slices.DeleteFunc(Clean(in), func(s string) bool { return s == "default" })
	}
	return slices.Equal(plain(g.Policies), plain(policies))
}

// Allows reports whether a client at addr may log in and use the token.
func (g *Grant) Allows(addr netip.Addr) bool { return Within(g.BoundCIDRs, addr) }

// Within reports whether addr lies in one of the prefixes; with none, all do.
func Within(prefixes []netip.Prefix, addr netip.Addr) bool {
	if len(prefixes) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
