package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"arca/internal/errs"
)

// maxPGPText bounds a PGP key in base64. Keys with photographs and hundreds of
// signatures stay far below.
const maxPGPText = 1 << 20

// A recipient is a PGP public key that shares or tokens are encrypted to.
type recipient struct {
	entity      *openpgp.Entity
	fingerprint string // hex
}

// parsePGP reads a binary public key in base64 (what gpg --export gives).
func parsePGP(text string) (recipient, error) {
	if len(text) > maxPGPText {
		return recipient{}, errs.New(errs.Invalid, "error parsing given PGP key: longer than %d bytes", maxPGPText)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return recipient{}, errs.New(errs.Invalid, "error decoding given PGP key: %w", err)
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(b)))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return recipient{}, errs.New(errs.Invalid, "error parsing given PGP key: %w", err)
	}
	return recipient{e, hex.EncodeToString(e.PrimaryKey.Fingerprint)}, nil
}

// encrypt makes a PGP message of plaintext to the recipient.
func (r recipient) encrypt(plaintext []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := openpgp.Encrypt(&out, []*openpgp.Entity{r.entity}, nil, nil, nil)
	if err != nil {
		return nil, errs.New(errs.Invalid, "error encrypting to the PGP key %s: %w", r.fingerprint, err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
