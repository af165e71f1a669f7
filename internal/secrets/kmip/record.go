package kmip

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"

	"github.com/google/uuid"

	"arca/internal/engine"
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

// whoParams are what the audit devices record of a client with a certificate. names are
// those of the scope and the role.
func whoParams(cert *x509.Certificate, names [2]string) (out param.Object) {
	if names[0] != "" {
		out = append(out, textMember("scope", names[0]), textMember("role", names[1]))
	}
	sum := sha256.Sum256(cert.Raw)
	return append(out, textMember("serial_number", cert.SerialNumber.String()), textMember("client_certificate_fingerprint", hex.EncodeToString(sum[:])))
}

func textMember(key, value string) param.Member {
	return param.Member{Key: key, Value: param.AppendString(nil, value)}
}

func listMember(key string, values []string) param.Member {
	return param.Member{Key: key, Value: engine.AppendStrings(nil, values)}
}

// params are what the audit devices record of the message; who is what they record of its
// client.
func (m *message) params(who param.Object) param.Object {
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
	out := make(param.Object, 0, 6+len(who))
	out = append(out, listMember("operations", ops), listMember("unique_identifiers", ids), textMember("protocol_version", m.version.text()))
	out = append(out, who...)
	if len(logs) > 0 {
		out = append(out, listMember("log_messages", logs))
	}
	if m.correlation != "" {
		out = append(out, textMember("client_correlation_value", m.correlation))
	}
	return out
}

// recordOf is what the audit devices record of an answer: how it went, and with which
// objects, but nothing of these.
func recordOf(answers []*ttlv.Node) json.RawMessage {
	out := append(make([]byte, 0, 128), `{"results":[`...)
	ids := 0
	for i, n := range answers {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '{')
		if c := n.Get(ttlv.TagOperation); c != nil {
			out = append(param.AppendString(append(out, `"operation":`...), ttlv.EnumName(ttlv.TagOperation, uint32(c.Int))), ',')
		}
		status := "unknown"
		if c := n.Get(ttlv.TagResultStatus); c != nil {
			status = ttlv.EnumName(ttlv.TagResultStatus, uint32(c.Int))
		}
		out = param.AppendString(append(out, `"status":`...), status)
		if c := n.Get(ttlv.TagResultReason); c != nil {
			out = param.AppendString(append(out, `,"reason":`...), ttlv.EnumName(ttlv.TagResultReason, uint32(c.Int)))
		}
		var named []string
		for _, c := range n.Get(ttlv.TagResponsePayload).Inside() {
			if c.Tag != ttlv.TagUniqueIdentifier && c.Tag != ttlv.TagPrivateKeyUniqueIdentifier && c.Tag != ttlv.TagPublicKeyUniqueIdentifier {
				continue
			}
			if ids++; ids <= maxRecorded {
				named = append(named, c.Text())
			}
		}
		if len(named) > 0 {
			out = engine.AppendStrings(append(out, `,"unique_identifiers":`...), named)
		}
		out = append(out, '}')
	}
	return append(out, `]}`...)
}
