// Package pkcs12 reads and writes files of PKCS #12 (RFC 7292) that hold a private key
// with its certificates, under a password.
//
// What is read comes from outside: how often a password is hashed, how many bags there
// are and how deep they lie is bounded, for the whole file, before any work is done. A
// library in common use bounds none of it. Read are the ciphers of RFC 8018 (AES, triple
// DES) and those of old files (triple DES and RC2 under SHA-1); written are AES-256 and SHA-256.
package pkcs12

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"unicode/utf16"

	"arca/internal/errs"
)

// Bounds of a file that is read.
const (
	MaxBytes = 256 << 10
	maxRuns  = 2_000_000 // of hashing the password, in all
	maxBags  = 64
	maxSafes = 16
)

// Runs of hashing the password when a file is written.
const runs = 10_000

// A Bundle is what a file holds.
type Bundle struct {
	Key   []byte              // PKCS #8, DER
	Certs []*x509.Certificate // that of the key first
	Name  string              // the friendly name of the key; "" for none
}

var (
	// ErrPassword is a password that is not that of the file.
	ErrPassword = errs.New(errs.Invalid, "the password is not that of the file")
	// ErrFile is a file that is not read: it is damaged, holds no or several keys, is
	// too large, or is made in a way that is not known.
	ErrFile = errs.New(errs.Invalid, "the file is none of PKCS #12 that can be read: one key with its certificates is, within bounds")
)

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

type pfx struct {
	Version int
	Safe    contentInfo
	Mac     macData `asn1:"optional"`
}

type macData struct {
	Mac struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt []byte
	Runs int `asn1:"optional,default:1"`
}

type encryptedData struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"tag:0,optional"`
	}
}

type bag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"tag:0,explicit"`
	Attributes []attribute   `asn1:"set,optional"`
}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue `asn1:"set"`
}

type certBag struct {
	ID   asn1.ObjectIdentifier
	Data []byte `asn1:"tag:0,explicit"`
}

type shrouded struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

func oid(n ...int) asn1.ObjectIdentifier { return n }

func pkcs(n ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113549, 1}, n...)
}

// A reader takes a file apart.
type reader struct {
	password []byte // UTF-8
	runs     int    // that are left
	bags     int    // so far
	keys     [][]byte
	keyID    []byte
	certs    []*x509.Certificate
	ids      [][]byte // of the certificates
	name     string
}

// unmarshal reads all of some DER.
func unmarshal(der []byte, into any) error {
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		return ErrFile
	}
	return nil
}

// Decode reads a file. Its errors are ErrPassword and ErrFile.
func Decode(der, password []byte) (*Bundle, error) { return decode(der, password, maxRuns) }

func decode(der, password []byte, runs int) (*Bundle, error) {
	if len(der) > MaxBytes {
		return nil, ErrFile
	}
	var f pfx
	if err := unmarshal(der, &f); err != nil || f.Version != 3 {
		return nil, ErrFile
	}
	r := &reader{password: password, runs: runs}
	safe, err := plain(&f.Safe)
	if err != nil {
		return nil, err
	}
	if f.Mac.Mac.Algorithm.Algorithm != nil {
		if err := r.verify(&f.Mac, safe); err != nil {
			return nil, err
		}
	}
	var list []contentInfo
	if err := unmarshal(safe, &list); err != nil || len(list) > maxSafes {
		return nil, ErrFile
	}
	for i := range list {
		if err := r.contents(&list[i]); err != nil {
			return nil, err
		}
	}
	return r.bundle()
}

// plain is the content that is not encrypted.
func plain(c *contentInfo) ([]byte, error) {
	var out []byte
	if !c.Type.Equal(pkcs(7, 1)) || unmarshal(c.Content.Bytes, &out) != nil {
		return nil, ErrFile
	}
	return out, nil
}

func (r *reader) contents(c *contentInfo) error {
	var raw []byte
	var err error
	if c.Type.Equal(pkcs(7, 6)) {
		var e encryptedData
		if unmarshal(c.Content.Bytes, &e) != nil || !e.Info.Type.Equal(pkcs(7, 1)) || e.Info.Content.IsCompound {
			return ErrFile
		}
		raw, err = r.decrypt(&e.Info.Algorithm, e.Info.Content.Bytes)
	} else {
		raw, err = plain(c)
	}
	if err != nil {
		return err
	}
	var list []bag
	if unmarshal(raw, &list) != nil {
		return ErrFile
	}
	for i := range list {
		if r.bags++; r.bags > maxBags {
			return ErrFile
		}
		if err := r.bag(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) bag(b *bag) error {
	switch {
	case b.ID.Equal(pkcs(12, 10, 1, 1)): // a key as it is
		r.keys = append(r.keys, slices.Clone(b.Value.Bytes))
		r.keyID, r.name = attributes(b)
	case b.ID.Equal(pkcs(12, 10, 1, 2)):
		var s shrouded
		if unmarshal(b.Value.Bytes, &s) != nil {
			return ErrFile
		}
		key, err := r.decrypt(&s.Algorithm, s.Data)
		if err != nil {
			return err
		}
		r.keys = append(r.keys, key)
		r.keyID, r.name = attributes(b)
	case b.ID.Equal(pkcs(12, 10, 1, 3)):
		var c certBag
		if unmarshal(b.Value.Bytes, &c) != nil || !c.ID.Equal(pkcs(9, 22, 1)) {
			return ErrFile
		}
		cert, err := x509.ParseCertificate(c.Data)
		if err != nil {
			return ErrFile
		}
		id, _ := attributes(b)
		r.certs, r.ids = append(r.certs, cert), append(r.ids, id)
	}
	return nil // there may be others, which concern nobody here
}

// attributes are the id by which key and certificate belong together, and the
// friendly name.
func attributes(b *bag) (id []byte, name string) {
	for _, a := range b.Attributes {
		switch {
		case a.ID.Equal(pkcs(9, 21)):
			_, _ = asn1.Unmarshal(a.Value.Bytes, &id) // nil when it is something else
		case a.ID.Equal(pkcs(9, 20)):
			var v asn1.RawValue
			if _, err := asn1.Unmarshal(a.Value.Bytes, &v); err == nil && v.Tag == asn1.TagBMPString && len(v.Bytes)%2 == 0 {
				units := make([]uint16, 0, len(v.Bytes)/2)
				for i := 0; i < len(v.Bytes); i += 2 {
					units = append(units, uint16(v.Bytes[i])<<8|uint16(v.Bytes[i+1]))
				}
				name = string(utf16.Decode(units))
			}
		}
	}
	return id, name
}

// bundle puts the certificate of the key first, the others in the order of the chain.
func (r *reader) bundle() (*Bundle, error) {
	if len(r.keys) != 1 {
		return nil, ErrFile
	}
	out := &Bundle{Key: r.keys[0], Name: r.name}
	leaf := slices.IndexFunc(r.ids, func(id []byte) bool { return len(id) > 0 && bytes.Equal(id, r.keyID) })
	if leaf < 0 && len(r.certs) > 0 {
		leaf = 0
	}
	rest := slices.Clone(r.certs)
	for at := leaf; at >= 0; {
		cert := rest[at]
		out.Certs = append(out.Certs, cert)
		rest = slices.Delete(rest, at, at+1)
		at = slices.IndexFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, cert.RawIssuer) })
	}
	out.Certs = append(out.Certs, rest...)
	return out, nil
}

func (r *reader) verify(m *macData, data []byte) error {
	h := hashOf(m.Mac.Algorithm.Algorithm)
	if h == nil {
		return ErrFile
	}
	key, err := r.derive(h, m.Salt, m.Runs, 3, h().Size())
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac(h, key, data), m.Mac.Digest) != 1 {
		return ErrPassword
	}
	return nil
}

// Encode writes a file.
func (b *Bundle) Encode(password []byte) ([]byte, error) {
	w := &writer{password: password}
	id := []byte{}
	if len(b.Certs) > 0 {
		sum := sha1.Sum(b.Certs[0].Raw)
		id = sum[:]
	}
	var certs []bag
	for i, c := range b.Certs {
		v := bag{ID: pkcs(12, 10, 1, 3), Value: w.explicit(certBag{pkcs(9, 22, 1), c.Raw})}
		if i == 0 {
			v.Attributes = w.attributes(id, b.Name)
		}
		certs = append(certs, v)
	}
	sealed, alg := w.encrypt(b.Key)
	key := bag{ID: pkcs(12, 10, 1, 2), Value: w.explicit(shrouded{alg, sealed}), Attributes: w.attributes(id, b.Name)}
	var e encryptedData
	e.Info.Type = pkcs(7, 1)
	content, alg := w.encrypt(w.marshal(certs))
	e.Info.Algorithm, e.Info.Content = alg, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: content}
	safe := w.marshal([]contentInfo{
		{pkcs(7, 6), w.explicit(e)}, {pkcs(7, 1), w.explicit(w.marshal([]bag{key}))},
	})
	f := pfx{Version: 3, Safe: contentInfo{pkcs(7, 1), w.explicit(safe)}}
	f.Mac.Salt, f.Mac.Runs = w.random(16), runs
	f.Mac.Mac.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid(2, 16, 840, 1, 101, 3, 4, 2, 1), Parameters: asn1.NullRawValue}
	h := hashOf(f.Mac.Mac.Algorithm.Algorithm)
	r := &reader{password: password, runs: maxRuns}
	macKey, err := r.derive(h, f.Mac.Salt, runs, 3, 32)
	if err != nil {
		return nil, err
	}
	f.Mac.Mac.Digest = mac(h, macKey, safe)
	out := w.marshal(f)
	return out, w.err
}

// A writer keeps the first thing that goes wrong.
type writer struct {
	password []byte
	err      error
}

func (w *writer) marshal(v any) []byte {
	out, err := asn1.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	return out
}

func (w *writer) explicit(v any) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: w.marshal(v)}
}

func (w *writer) random(n int) []byte {
	out := make([]byte, n)
	if _, err := rand.Read(out); err != nil && w.err == nil {
		w.err = err
	}
	return out
}

func (w *writer) attributes(id []byte, name string) (out []attribute) {
	set := func(v any) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: w.marshal(v)}
	}
	if len(id) > 0 {
		out = append(out, attribute{pkcs(9, 21), set(id)})
	}
	if name != "" {
		var text []byte
		for _, u := range utf16.Encode([]rune(name)) {
			text = append(text, byte(u>>8), byte(u))
		}
		out = append(out, attribute{pkcs(9, 20), set(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: text})})
	}
	return out
}
