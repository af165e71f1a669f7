package audit

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Where the rows lie: one key for each device and each header.
const (
	dir       = "n/" + namespace.RootID + "/audit/"
	deviceDir = dir + "device/"
	headerDir = dir + "header/"
)

const saltBytes = 32

// A Device is an audit device as sys/audit shows it.
type Device struct {
	Path        string // ends with a slash
	Type        string
	Description string
	Options     map[string]string
	Local       bool
}

// A row is a device as it is stored.
type row struct {
	Version     int               `json:"v"`
	ID          string            `json:"id"` // tells it from an earlier one of the same path
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Local       bool              `json:"local,omitempty"`
	Salt        []byte            `json:"salt"`
}

// A headerRow is a request header that is recorded, as it is stored.
type headerRow struct {
	Version int  `json:"v"`
	HMAC    bool `json:"hmac,omitempty"`
}

func decodeRow(value []byte) (row, error) {
	var r row
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("decode audit device: %w", err)
	}
	return r, nil
}

func readRows(tx storage.Tx) ([]row, error) {
	var rows []row
	for kv, err := range tx.Scan(deviceDir, "") {
		if err != nil {
			return nil, err
		}
		r, err := decodeRow(kv.Value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// Devices lists the enabled devices in the order of their paths.
func Devices(tx storage.Tx) ([]Device, error) {
	rows, err := readRows(tx)
	if err != nil {
		return nil, err
	}
	out := make([]Device, len(rows))
	for i, r := range rows {
		out[i] = Device{Path: r.Path, Type: r.Type, Description: r.Description, Options: r.Options, Local: r.Local}
	}
	return out, nil
}

// Enable adds a device within tx. It is opened and tried before that: the error
// is Invalid when that fails, or when the path is taken. The broker uses it from
// the commit on; Abandon must be called when the request is over.
func (b *Broker) Enable(tx storage.Tx, requestID string, d Device) error {
	if err := free(tx, d.Path); err != nil {
		return err
	}
	r := row{
		Version: 1, ID: uuid.NewString(), Path: d.Path, Type: d.Type, Description: d.Description, Options: d.Options,
		Local: d.Local, Salt: make([]byte, saltBytes),
	}
	_, _ = rand.Read(r.Salt) // never fails
	if err := onlyFallback(tx, r.Options); err != nil {
		return err
	}
	dev, err := b.prepare(r)
	if err != nil {
		return err
	}
	b.hold(requestID, dev)
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Put(deviceDir+r.Path, raw)
}

// onlyFallback refuses a second device that takes what no other wants.
func onlyFallback(tx storage.Tx, options map[string]string) error {
	s, err := parseSelection(options)
	if err != nil || !s.fallback {
		return err
	}
	rows, err := readRows(tx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if have, err := parseSelection(r.Options); err == nil && have.fallback {
			return errs.New(errs.Invalid, "%s is the fallback device already: there can be one", r.Path)
		}
	}
	return nil
}

// free refuses a path that a device has, or that lies above or below one.
func free(tx storage.Tx, path string) error {
	if path == "" || path == "/" {
		return errs.New(errs.Invalid, "backend path must be specified")
	}
	for key, err := range tx.Keys(deviceDir, "") {
		if err != nil {
			return err
		}
		have := strings.TrimPrefix(key, deviceDir)
		if strings.HasPrefix(have, path) || strings.HasPrefix(path, have) {
			return errs.New(errs.Invalid, "path already in use")
		}
	}
	return nil
}

// Disable removes the device at a path within tx; one that is not there is gone
// already.
func Disable(tx storage.Tx, path string) error {
	raw, err := tx.Get(deviceDir + path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r, err := decodeRow(raw); err == nil { // a spoilt one goes, too
		if err := forgetEnds(tx, r.ID); err != nil {
			return err
		}
	}
	return tx.Delete(deviceDir + path)
}

// Headers returns the request headers that are recorded, by their names in
// lower case, and whether each is hashed.
func Headers(tx storage.Tx) (map[string]bool, error) {
	out := map[string]bool{}
	for kv, err := range tx.Scan(headerDir, "") {
		if err != nil {
			return nil, err
		}
		var r headerRow
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return nil, fmt.Errorf("decode audit header: %w", err)
		}
		out[strings.TrimPrefix(kv.Key, headerDir)] = r.HMAC
	}
	return out, nil
}

// Header tells whether a header, in any case, is hashed. The error matches
// storage.ErrNotFound when it is not recorded.
func Header(tx storage.Tx, name string) (hmac bool, err error) {
	raw, err := tx.Get(headerDir + strings.ToLower(name))
	if err != nil {
		return false, err
	}
	var r headerRow
	if err := json.Unmarshal(raw, &r); err != nil {
		return false, fmt.Errorf("decode audit header: %w", err)
	}
	return r.HMAC, nil
}

// maxHeaders bounds how many headers each record looks for.
const maxHeaders = 128

// SetHeader has a request header recorded.
func SetHeader(tx storage.Tx, name string, hmac bool) error {
	name = strings.ToLower(name)
	if _, err := Header(tx, name); errors.Is(err, storage.ErrNotFound) {
		have, err := Headers(tx)
		if err != nil {
			return err
		}
		if len(have) >= maxHeaders {
			return errs.New(errs.Invalid, "at most %d request headers can be recorded", maxHeaders)
		}
	}
	raw, err := json.Marshal(headerRow{Version: 1, HMAC: hmac})
	if err != nil {
		return err
	}
	return tx.Put(headerDir+name, raw)
}

// DeleteHeader has a request header not recorded any more.
func DeleteHeader(tx storage.Tx, name string) error {
	return tx.Delete(headerDir + strings.ToLower(name))
}
