// Package chain ties the lines of a log to one another, so that one that is
// changed, left out, added or moved later is noticed. A line is a JSON object; in
// the chain it gets one more member, the last:
//
//	,"chain":{"id":"…","seq":17,"prev":"…","hash":"…","mac":"…"}
//
// id names the chain (16 hex digits), seq counts its lines from 1, prev is the hash
// of the line before, and hash the
// SHA-256 of the hash before, the number (8 bytes, big endian) and the line
// without this member and its closing brace; before the first comes the SHA-256
// of the id. mac is the HMAC-SHA-256 of the hash under a key that only the writer
// has: who can write the log, but has no key, cannot make a chain of his own.
package chain

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
)

const idBytes = 8

// A Head is the end of a chain: what the next line follows. The zero Head is
// that of no chain.
type Head struct {
	ID   string
	Seq  uint64
	Hash [sha256.Size]byte
}

// Start begins a chain with a random id.
func Start() Head {
	var id [idBytes]byte
	_, _ = rand.Read(id[:]) // never fails
	return begin(hex.EncodeToString(id[:]))
}

func begin(id string) Head { return Head{ID: id, Hash: sha256.Sum256([]byte(id))} }

// A Link ties lines. It is for one goroutine.
type Link struct {
	sum, mac hash.Hash
	room     [sha256.Size]byte
}

// NewLink returns a Link with the key of the macs.
func NewLink(key []byte) *Link { return &Link{sum: sha256.New(), mac: hmac.New(sha256.New, key)} }

// Append appends line, an object that may end with a newline, with its member of
// the chain and a newline to dst, and moves the head on.
func (l *Link) Append(dst []byte, head *Head, line []byte) []byte {
	prev := head.Hash
	body := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'}'})
	head.next(l.sum, body)
	dst = append(dst, body...)
	if body[len(body)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"chain":{"id":"`...)
	dst = append(dst, head.ID...)
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendUint(dst, head.Seq, 10)
	dst = append(dst, `,"prev":"`...)
	dst = hex.AppendEncode(dst, prev[:])
	dst = append(dst, `","hash":"`...)
	dst = hex.AppendEncode(dst, head.Hash[:])
	dst = append(dst, `","mac":"`...)
	dst = hex.AppendEncode(dst, l.Mac(head.Hash))
	return append(dst, `"}}`+"\n"...)
}

// Mac returns the mac of a hash, valid until the next call.
func (l *Link) Mac(of [sha256.Size]byte) []byte {
	l.mac.Reset()
	l.mac.Write(of[:])
	return l.mac.Sum(l.room[:0])
}

// Holds reports whether the record has a mac of this key, in constant time.
func (l *Link) Holds(r Record) bool { return hmac.Equal(l.Mac(r.Hash), r.Mac[:]) }

func (h *Head) next(sum hash.Hash, body []byte) {
	h.Seq++
	var number [8]byte
	for i := range number {
		number[i] = byte(h.Seq >> (56 - 8*i))
	}
	sum.Reset()
	sum.Write(h.Hash[:])
	sum.Write(number[:])
	sum.Write(body)
	sum.Sum(h.Hash[:0])
}

// A Record is the member of the chain that a line has.
type Record struct {
	Head
	Prev [sha256.Size]byte // the hash of the line before
	Mac  [sha256.Size]byte
}

// Parse takes a line apart into what it says of the chain and the rest, as it
// was before. It reports false for a line that is in no chain.
func Parse(line []byte) (r Record, body []byte, ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	// The member has no braces inside, so that it begins at the last of these.
	at := bytes.LastIndex(line, []byte(`"chain":{`))
	if at < 1 {
		return r, nil, false
	}
	rest := string(line[at:])
	var fields [5]string
	for i, name := range [...]string{`"chain":{"id":"`, `","seq":`, `,"prev":"`, `","hash":"`, `","mac":"`} {
		if !strings.HasPrefix(rest, name) {
			return r, nil, false
		}
		rest = rest[len(name):]
		end := strings.IndexAny(rest, `",`)
		if end < 0 {
			return r, nil, false
		}
		fields[i], rest = rest[:end], rest[end:]
	}
	if rest != `"}}` {
		return r, nil, false
	}
	seq, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil || seq == 0 || !isID(fields[0]) || !decode(r.Prev[:], fields[2]) || !decode(r.Hash[:], fields[3]) || !decode(r.Mac[:], fields[4]) {
		return r, nil, false
	}
	r.ID, r.Seq = fields[0], seq
	body = line[:at]
	if body[at-1] == ',' {
		body = body[:at-1]
	}
	return r, body, true
}

func isID(s string) bool {
	var id [idBytes]byte
	return decode(id[:], s)
}

// decode reads as many bytes as into has; only lower case is written.
func decode(into []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(into)) || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.Decode(into, []byte(s))
	return err == nil
}
