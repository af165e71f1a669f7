package key

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// MaxStored bounds what a key store may hold for one key, in bytes. Keys take
// about 250.
const MaxStored = 64 << 10

// A stored key is base64 of a protocol buffer:
//
//	1 message { 1 bytes key; 2 varint cipher: 1 AES-256, 2 ChaCha20 }
//	2 message { 1 bytes HMAC key; 2 varint hash: 1 SHA-256 }
//	3 message { 1 varint seconds; 2 varint nanoseconds }
//	4 string  who made it
const (
	fieldKey     = 1
	fieldHMAC    = 2
	fieldCreated = 3
	fieldBy      = 4

	hashSHA256 = 1
)

// Encode returns what is stored.
func (k *Key) Encode() []byte {
	c := k.Cipher
	if c == Unspecified {
		c = AES256
	}
	b := appendMessage(nil, fieldKey, appendVarint(appendBytes(nil, 1, k.secret[:]), 2, uint64(c)))
	if len(k.hmacKey) > 0 {
		b = appendMessage(b, fieldHMAC, appendVarint(appendBytes(nil, 1, k.hmacKey), 2, hashSHA256))
	}
	if !k.CreatedAt.IsZero() {
		b = appendMessage(b, fieldCreated,
			appendVarint(appendVarint(nil, 1, uint64(k.CreatedAt.Unix())), 2, uint64(k.CreatedAt.Nanosecond())))
	}
	if k.CreatedBy != "" {
		b = appendBytes(b, fieldBy, []byte(k.CreatedBy))
	}
	return base64.StdEncoding.AppendEncode(nil, b)
}

// Decode reads a stored key of any version. The error says what is wrong and
// holds none of the bytes.
func Decode(stored []byte) (*Key, error) {
	if len(stored) > MaxStored {
		return nil, fmt.Errorf("the entry has %d bytes and is no key", len(stored))
	}
	stored = bytes.TrimSpace(stored)
	switch {
	case len(stored) == 0:
		return nil, fmt.Errorf("the entry is empty")
	case stored[0] == '{':
		return decodeJSON(stored)
	}
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(stored)))
	n, err := base64.StdEncoding.Decode(raw, stored)
	if err != nil {
		return nil, fmt.Errorf("the entry is neither JSON nor base64")
	}
	return decodeProto(raw[:n])
}

// decodeJSON reads the form that was written until 2024. The very first had
// nothing but the bytes.
func decodeJSON(stored []byte) (*Key, error) {
	var in struct {
		Version   string    `json:"version"`
		Bytes     []byte    `json:"bytes"`
		Algorithm string    `json:"algorithm"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
	}
	if json.Unmarshal(stored, &in) != nil { // its text may quote the entry
		return nil, fmt.Errorf("the entry is not the JSON of a key")
	}
	if in.Version != "" && in.Version != "v1" {
		return nil, fmt.Errorf("the entry has an unknown version")
	}
	if len(in.Bytes) != Size {
		return nil, fmt.Errorf("the entry's key has %d bytes instead of %d", len(in.Bytes), Size)
	}
	k := &Key{CreatedAt: in.CreatedAt.UTC(), CreatedBy: in.CreatedBy}
	if in.Algorithm != "" {
		c, ok := ParseCipher(in.Algorithm)
		if !ok {
			return nil, fmt.Errorf("the entry names an unknown cipher")
		}
		k.Cipher = c
	}
	copy(k.secret[:], in.Bytes)
	return k, k.check()
}

func decodeProto(raw []byte) (*Key, error) {
	k := &Key{}
	var secret []byte
	err := eachField(raw, func(number int, value uint64, inner []byte) error {
		switch number {
		case fieldKey:
			return eachField(inner, func(number int, value uint64, b []byte) error {
				switch number {
				case 1:
					secret = b
				case 2:
					if value != uint64(AES256) && value != uint64(ChaCha20) {
						return fmt.Errorf("the entry names an unknown cipher")
					}
					k.Cipher = Cipher(value)
				}
				return nil
			})
		case fieldHMAC:
			return k.decodeHMAC(inner)
		case fieldCreated:
			return k.decodeCreated(inner)
		case fieldBy:
			k.CreatedBy = string(inner)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(secret) != Size {
		return nil, fmt.Errorf("the entry's key has %d bytes instead of %d", len(secret), Size)
	}
	copy(k.secret[:], secret)
	return k, k.check()
}

func (k *Key) decodeHMAC(raw []byte) error {
	hash := uint64(0)
	err := eachField(raw, func(number int, value uint64, b []byte) error {
		switch number {
		case 1:
			k.hmacKey = b
		case 2:
			hash = value
		}
		return nil
	})
	if err == nil && (len(k.hmacKey) != Size || hash != hashSHA256) {
		return fmt.Errorf("the entry's HMAC key is none")
	}
	return err
}

func (k *Key) decodeCreated(raw []byte) error {
	var seconds, nanos uint64
	err := eachField(raw, func(number int, value uint64, _ []byte) error {
		switch number {
		case 1:
			seconds = value
		case 2:
			nanos = value
		}
		return nil
	})
	if nanos >= 1e9 {
		return fmt.Errorf("the entry's time is none")
	}
	k.CreatedAt = time.Unix(int64(seconds), int64(nanos)).UTC()
	return err
}

// check refuses what could not be used or shown.
func (k *Key) check() error {
	if !k.Cipher.Usable() {
		return fmt.Errorf("the key's cipher, %s, may not be used in FIPS 140 mode", k.Cipher)
	}
	if y := k.CreatedAt.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("the entry's time is none")
	}
	return nil
}

var errProto = fmt.Errorf("the entry is base64, but of no key")

// eachField calls f for each field of a protocol buffer: with a number for a
// varint, with bytes for what has a length. Other types are errors.
func eachField(b []byte, f func(number int, value uint64, inner []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return errProto
		}
		b = b[n:]
		value, n := binary.Uvarint(b)
		if n <= 0 {
			return errProto
		}
		b = b[n:]
		var inner []byte
		switch tag & 7 {
		case 0:
		case 2:
			if value > uint64(len(b)) {
				return errProto
			}
			inner, b = b[:value:value], b[value:]
		default:
			return errProto
		}
		if err := f(int(tag>>3), value, inner); err != nil {
			return err
		}
	}
	return nil
}

func appendVarint(b []byte, number int, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3), value)
}

func appendBytes(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

func appendMessage(b []byte, number int, message []byte) []byte {
	return appendBytes(b, number, message)
}
