package kmip

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/param"
	"arca/internal/ttlv"
)

const maxRecorded = 100 // identifiers and results of one message

// newUUID is uuid.NewString, but that its random bytes are not made room for each time.
func newUUID() string {
	var u uuid.UUID
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u.String()
}

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

// AuditParams implements engine.Described: what the audit devices record of the message and its
// client.
func (m *message) AuditParams() param.Object {
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
	out := make(param.Object, 0, 7+len(m.who))
	out = append(out, listMember("operations", ops), listMember("unique_identifiers", ids), textMember("protocol_version", m.version.text()))
	out = append(out, m.who...)
	if len(logs) > 0 {
		out = append(out, listMember("log_messages", logs))
	}
	if m.correlation != "" {
		out = append(out, textMember("client_correlation_value", m.correlation))
	}
	if m.limited {
		out = append(out, param.Member{Key: limitedName, Value: []byte("true")})
	}
	return out
}
