// Package audit records every request and answer on devices.
package audit

import (
	"context"
	"log/slog"
	"time"

	"arca/internal/barrier"
	"arca/internal/engine"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/token"
)

// A Kind tells a record of a request from that of its answer.
type Kind uint8

// The kinds of records.
const (
	Request Kind = iota
	Response
)

// A Record is what the hall knows about a request or its answer. Nothing in it
// is hashed yet.
type Record struct {
	Kind      Kind
	Time      time.Time
	Op        engine.Operation // create told from update
	Namespace *namespace.Namespace
	Request   *engine.Request
	Mount     *mount.Entry // nil when the path has none
	Token     *token.Entry // of the caller; nil without a valid token
	// Judged says that there is a verdict; Allowed and Granting are it.
	Judged   bool
	Allowed  bool
	Granting []string         // names of the policies whose rule decided
	Response *engine.Response // of an answer without error
	Error    error
	Login    bool // on a route that gives tokens
}

// A Factory makes devices.
type Factory func(typ string, options map[string]string) error

// Config of a Broker.
type Config struct {
	DB      *storage.DB
	Ring    *barrier.Keyring
	Factory Factory
	Log     *slog.Logger
}

// A Broker gives each record to the enabled devices.
type Broker struct{}

// NewBroker opens the devices that the store names.
func NewBroker(context.Context, Config) (*Broker, error) { return &Broker{}, nil }

// Enabled reports whether there is any device.
func (b *Broker) Enabled() bool { return false }

// Log gives a record to the devices and returns when one has it.
func (b *Broker) Log(*Record) error { return nil }

// Close closes the devices.
func (b *Broker) Close() {}
