package issuer

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/identity"
)

const maxTemplateBytes = 16 << 10

// reserved claims are the issuer's own.
var reserved = []string{"iat", "aud", "exp", "iss", "sub", "namespace", "nonce", "auth_time", "at_hash", "c_hash"}

// decodeTemplate takes a template as text or in base64.
func decodeTemplate(text string) string {
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		return string(raw)
	}
	return text
}

// checkTemplate fills a template in for nobody, to see what becomes of it.
func checkTemplate(text string) error {
	if len(text) > maxTemplateBytes {
		return errs.New(errs.Invalid, "a template has at most %d bytes", maxTemplateBytes)
	}
	claims, err := fillTemplate(text, nobody, "", time.Unix(0, 0))
	if err != nil {
		return err
	}
	for name := range claims {
		if slices.Contains(reserved, name) {
			return errs.New(errs.Invalid, "top level key %q not allowed. Restricted keys: %s", name, strings.Join(reserved, ", "))
		}
	}
	return nil
}

// fillTemplate replaces what stands between {{ and }} by JSON and returns the
// object that comes of it. Names of groups are those of the namespace ns, where the
// template is: others may call theirs what they like.
func fillTemplate(text string, p *identity.Person, ns string, now time.Time) (map[string]json.RawMessage, error) {
	if text == "" {
		return map[string]json.RawMessage{}, nil
	}
	var out strings.Builder
	rest := text
	for {
		before, after, open := strings.Cut(rest, "{{")
		out.WriteString(before)
		if !open {
			break
		}
		directive, behind, closed := strings.Cut(after, "}}")
		if !closed {
			return nil, errs.New(errs.Invalid, "error parsing template: a directive is not closed with }}")
		}
		v, err := valueOf(strings.TrimSpace(directive), p, ns, now)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out.Write(raw)
		if out.Len() > 1<<20 {
			return nil, errs.New(errs.Invalid, "a template makes at most 1 MiB")
		}
		rest = behind
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out.String()), &claims); err != nil || claims == nil {
		return nil, errs.New(errs.Invalid, "error parsing template JSON: it is no object")
	}
	return claims, nil
}

// valueOf is what a directive stands for
// (https://developer.hashicorp.com/vault/docs/secrets/identity/identity-token#token-contents-and-templates).
func valueOf(directive string, p *identity.Person, ns string, now time.Time) (any, error) {
	switch directive {
	case "identity.entity.metadata":
		return orMap(p.Entity.Metadata), nil
	case "identity.entity.groups.names", "identity.entity.groups.ids":
		out := make([]string, 0, len(p.Groups))
		for _, g := range p.Groups {
			if strings.HasSuffix(directive, "ids") {
				out = append(out, g.ID)
			} else if g.NamespaceID == ns {
				out = append(out, g.Name)
			}
		}
		slices.Sort(out)
		return out, nil
	case "time.now":
		return now.Unix(), nil
	}
	if text, ok := strings.CutPrefix(directive, "time.now.plus."); ok {
		if d, err := time.ParseDuration(text); err == nil {
			return now.Add(d).Unix(), nil
		}
	}
	if text, ok := strings.CutPrefix(directive, "time.now.minus."); ok {
		if d, err := time.ParseDuration(text); err == nil {
			return now.Add(-d).Unix(), nil
		}
	}
	if rest, ok := strings.CutPrefix(directive, "identity.entity.aliases."); ok {
		accessor, what, _ := strings.Cut(rest, ".")
		if what == "metadata" || what == "custom_metadata" {
			return aliasMap(p, accessor, what), nil
		}
		if what == "id" || what == "name" || strings.HasPrefix(what, "metadata.") || strings.HasPrefix(what, "custom_metadata.") {
			return p.Value(directive), nil
		}
	}
	if directive == "identity.entity.id" || directive == "identity.entity.name" || strings.HasPrefix(directive, "identity.entity.metadata.") {
		return p.Value(directive), nil
	}
	return nil, errs.New(errs.Invalid, "error parsing template: unknown directive %.100q", directive)
}

func aliasMap(p *identity.Person, accessor, what string) map[string]string {
	for i := range p.Entity.Aliases {
		a := &p.Entity.Aliases[i]
		if a.MountAccessor != accessor {
			continue
		}
		if what == "metadata" {
			return orMap(a.Metadata)
		}
		return orMap(a.Custom)
	}
	return map[string]string{}
}

func orMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
