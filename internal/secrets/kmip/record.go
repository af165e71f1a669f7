package kmip

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"arca/internal/param"
	"arca/internal/ttlv"
)

const maxRecorded = 100 // identifiers and results of one message

func newRequestID() string { return uuid.NewString() }

// clearParams are the members of records that audit devices show in clear. The
// others, identifiers above all, are hashed like those of other engines.
func clearParams() []string {
	return []string{
		"operations", "protocol_version", "scope", "role", "serial_number", "client_certificate_fingerprint", "operation", "status", "reason", "log_messages", limitedName,
	}
}

// params are what the audit devices record of the message. names are those of the
// scope and the role.
func (m *message) params(state *tls.ConnectionState, names [2]string) param.Object {
	ops := make([]string, 0, len(m.items))
	ids := []string{}
	for i := range m.items {
		it := &m.items[i]
		name := "unknown"
		if it.op != nil {
			name = it.op.name
		}
		if len(ops) < maxBatch {
			ops = append(ops, name)
		}
		for _, tag := range []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagPrivateKeyUniqueIdentifier} {
			for _, id := range it.payload.All(tag) {
				if id.Type == ttlv.TextString && len(ids) < maxRecorded {
					ids = append(ids, id.Text())
				}
			}
		}
	}
	logs := []string{}
	for i := range m.items {
		if n := m.items[i].payload.Get(ttlv.TagLogMessage); n != nil && m.items[i].code == ttlv.OperationLog && len(n.Bytes) <= maxLogBytes && len(logs) < maxRecorded {
			logs = append(logs, n.Text())
		}
	}
	out := param.Object{}
	add := func(key string, v any) {
		if raw, err := json.Marshal(v); err == nil {
			out = append(out, param.Member{Key: key, Value: raw})
		}
	}
	add("operations", ops)
	add("unique_identifiers", ids)
	add("protocol_version", fmt.Sprintf("%d.%d", m.version.major, m.version.minor))
	if names[0] != "" {
		add("scope", names[0])
		add("role", names[1])
	}
	if len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		add("serial_number", cert.SerialNumber.String())
		sum := sha256.Sum256(cert.Raw)
		add("client_certificate_fingerprint", hex.EncodeToString(sum[:]))
	}
	if len(logs) > 0 {
		add("log_messages", logs)
	}
	if m.correlation != "" {
		add("client_correlation_value", m.correlation)
	}
	return out
}

// A result is what the audit devices record of the answer to one item.
type result struct {
	Operation string   `json:"operation,omitempty"`
	Status    string   `json:"status"`
	Reason    string   `json:"reason,omitempty"`
	IDs       []string `json:"unique_identifiers,omitempty"`
}

// recordOf is what the audit devices record of an answer: how it went, and with which
// objects, but nothing of these.
func recordOf(answers []*ttlv.Node) json.RawMessage {
	list := []result{}
	ids := 0
	for _, n := range answers {
		r := result{Status: "unknown"}
		if c := n.Get(ttlv.TagOperation); c != nil {
			r.Operation = ttlv.EnumName(ttlv.TagOperation, uint32(c.Int))
		}
		if c := n.Get(ttlv.TagResultStatus); c != nil {
			r.Status = ttlv.EnumName(ttlv.TagResultStatus, uint32(c.Int))
		}
		if c := n.Get(ttlv.TagResultReason); c != nil {
			r.Reason = ttlv.EnumName(ttlv.TagResultReason, uint32(c.Int))
		}
		for _, c := range n.Get(ttlv.TagResponsePayload).Inside() {
			if !slices.Contains([]ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagPrivateKeyUniqueIdentifier, ttlv.TagPublicKeyUniqueIdentifier}, c.Tag) {
				continue
			}
			if ids++; ids <= maxRecorded {
				r.IDs = append(r.IDs, c.Text())
			}
		}
		list = append(list, r)
	}
	raw, err := json.Marshal(map[string]any{"results": list})
	if err != nil {
		return json.RawMessage("{}")
	}
	return raw
}
