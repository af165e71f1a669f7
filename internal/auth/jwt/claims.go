package jwt

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/ryanuber/go-glob"

	"arca/internal/errs"
)

// claim finds a claim by its name, or by a JSON pointer (RFC 6901), which begins
// with a slash; nil is none.
func claim(all map[string]any, name string) any {
	if !strings.HasPrefix(name, "/") {
		return all[name]
	}
	var at any = all
	for part := range strings.SplitSeq(name[1:], "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch in := at.(type) {
		case map[string]any:
			at = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			at = in[i]
		default:
			return nil
		}
	}
	return at
}

// listOf makes a list of one value or of several; false is what is neither text,
// number or truth nor a list.
func listOf(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case string, bool, float64, json.Number:
		return []any{v}, true
	}
	return nil, false
}

// checkBound holds the claims to those that the role demands.
func (r *role) checkBound(all map[string]any) error {
	for name, want := range r.Claims {
		have := claim(all, name)
		if have == nil {
			return errs.New(errs.Invalid, "error validating claims: claim %q is missing", name)
		}
		haves, ok := listOf(have)
		if !ok {
			return errs.New(errs.Invalid, "error validating claims: received claim is not a string or list: %q", name)
		}
		wants, _ := listOf(want)
		if !r.meet(haves, wants) {
			return errs.New(errs.Invalid, "error validating claims: claim %q does not match any associated bound claim values", name)
		}
	}
	return nil
}

func (r *role) meet(haves, wants []any) bool {
	for _, have := range haves {
		for _, want := range wants {
			pattern, isText := want.(string)
			text, haveText := have.(string)
			switch {
			case r.ClaimsType == boundGlob:
				if isText && haveText && glob.Glob(pattern, text) {
					return true
				}
			case equal(have, want):
				return true
			}
		}
	}
	return false
}

// equal compares two texts, truths or numbers. Numbers are those of JSON, of any
// size, and equal when they stand for the same, however they are written.
func equal(a, b any) bool {
	m, first := a.(json.Number)
	n, second := b.(json.Number)
	if first && second {
		return m == n || decimalOf(string(m)) == decimalOf(string(n))
	}
	return reflect.DeepEqual(a, b)
}

// A decimal is 0.<digits> times ten to the power of exp, with neither zeros in
// front of the digits nor behind them.
type decimal struct {
	negative bool
	digits   string
	exp      int
	odd      string // a number whose exponent is beyond an int, as it is written
}

func decimalOf(n string) decimal {
	text, negative := strings.CutPrefix(n, "-")
	mantissa, power := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, power = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	d := decimal{negative: negative, digits: strings.TrimLeft(whole+fraction, "0"), exp: len(whole)}
	d.exp -= len(whole+fraction) - len(d.digits)
	if d.digits = strings.TrimRight(d.digits, "0"); d.digits == "" {
		return decimal{} // zero
	}
	if power != "" {
		by, err := strconv.ParseInt(power, 10, 32)
		if err != nil {
			return decimal{odd: n}
		}
		d.exp += int(by)
	}
	return d
}

// A person is what the claims tell of who logs in.
type person struct {
	name     string
	groups   []string
	metadata map[string]string // with the role
}

// person reads who logs in.
func (r *role) person(all map[string]any, roleName string) (*person, error) {
	who := all[r.UserClaim]
	if r.UserPointer {
		who = claim(all, r.UserClaim)
	}
	if who == nil {
		return nil, errs.New(errs.Invalid, "claim %q not found in token", r.UserClaim)
	}
	p := &person{metadata: map[string]string{"role": roleName}}
	var ok bool
	if p.name, ok = who.(string); !ok {
		return nil, errs.New(errs.Invalid, "claim %q could not be converted to string", r.UserClaim)
	}
	if p.name == "" {
		return nil, errs.New(errs.Failed, "missing name in alias")
	}
	for from, to := range r.Mappings {
		v := claim(all, from)
		if v == nil {
			continue
		}
		if p.metadata[to], ok = v.(string); !ok {
			return nil, errs.New(errs.Invalid, "error converting claim '%s' to string", from)
		}
	}
	var err error
	p.groups, err = r.groups(all)
	return p, err
}

const maxGroups = 1000 // of one token

func (r *role) groups(all map[string]any) ([]string, error) {
	if r.GroupsClaim == "" {
		return nil, nil
	}
	v := claim(all, r.GroupsClaim)
	if v == nil {
		return nil, errs.New(errs.Invalid, "failed to fetch groups: %q claim not found in token", r.GroupsClaim)
	}
	list, ok := listOf(v)
	if !ok {
		return nil, errs.New(errs.Invalid, "failed to fetch groups: %q claim could not be converted to string list", r.GroupsClaim)
	}
	if len(list) > maxGroups {
		return nil, errs.New(errs.Invalid, "failed to fetch groups: the token names more than %d", maxGroups)
	}
	out := make([]string, 0, len(list))
	for _, g := range list {
		name, ok := g.(string)
		if !ok {
			return nil, errs.New(errs.Invalid, "value %v in groups claim could not be parsed as string", g)
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out, nil
}
