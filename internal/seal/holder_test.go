package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"arca/internal/barrier"
)

// A holder of a PGP key.
type holder struct {
	entity      *openpgp.Entity
	public      string // as the API takes it
	fingerprint string
}

func newHolder(t *testing.T, name string) holder {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return holder{e, base64.StdEncoding.EncodeToString(b.Bytes()), hex.EncodeToString(e.PrimaryKey.Fingerprint)}
}

func (h holder) decrypt(t *testing.T, message []byte) []byte {
	t.Helper()
	m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{h.entity}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(m.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// share decrypts a told share: hex digits inside.
func (h holder) share(t *testing.T, told barrier.Key) barrier.Key {
	t.Helper()
	k, err := ParseShare(string(h.decrypt(t, told)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
