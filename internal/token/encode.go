package token

import (
	"encoding/json"
	"strconv"
	"time"

	"arca/internal/engine"
	"arca/internal/param"
)

// encode writes the record as encoding/json would, which reads it again. It is
// written by hand, as every login and every wrapping makes one.
func (e *Entry) encode() ([]byte, error) {
	b := make([]byte, 0, 320+len(e.Path))
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(e.Version), 10)
	text := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = param.AppendString(b, value)
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			b = append(b, name...)
			b = strconv.AppendInt(b, n, 10)
		}
	}
	moment := func(name string, t time.Time) {
		if !t.IsZero() {
			b = append(b, name...)
			b = append(b, '"')
			b = t.AppendFormat(b, time.RFC3339Nano)
			b = append(b, '"')
		}
	}
	var err error
	other := func(name string, present bool, v any) {
		if !present || err != nil {
			return
		}
		var raw []byte
		if raw, err = json.Marshal(v); err == nil {
			b = append(b, name...)
			b = append(b, raw...)
		}
	}
	text(`,"p":`, e.Parent)
	text(`,"pn":`, e.ParentNS)
	if len(e.Policies) > 0 {
		b = append(b, `,"pol":`...)
		b = engine.AppendStrings(b, e.Policies)
	}
	b = append(b, `,"path":`...)
	b = param.AppendString(b, e.Path)
	if len(e.Meta) > 0 {
		b = param.AppendMap(append(b, `,"meta":`...), e.Meta)
	}
	text(`,"dn":`, e.DisplayName)
	number(`,"uses":`, int64(e.NumUses))
	moment(`,"ct":`, e.Created)
	number(`,"cttl":`, int64(e.CreationTTL))
	moment(`,"exp":`, e.Expires)
	moment(`,"ren":`, e.LastRenewal)
	number(`,"per":`, int64(e.Period))
	number(`,"xmax":`, int64(e.ExplicitMax))
	number(`,"max":`, int64(e.MaxTTL))
	if e.Renewable {
		b = append(b, `,"r":true`...)
	}
	number(`,"t":`, int64(e.Type))
	text(`,"role":`, e.Role)
	text(`,"e":`, e.EntityID)
	other(`,"cidr":`, len(e.BoundCIDRs) > 0, e.BoundCIDRs)
	text(`,"m":`, e.Mount)
	if texts, ok := param.AppendTexts(append(b, `,"i":`...), e.Internal); ok { // what most auth methods keep
		b = texts
	} else {
		other(`,"i":`, len(e.Internal) > 0, e.Internal)
	}
	other(`,"w":`, e.Wrapped != nil, e.Wrapped)
	other(`,"q":`, e.Quota != nil, e.Quota)
	text(`,"ns":`, e.NamespaceID)
	return append(b, '}'), err
}
