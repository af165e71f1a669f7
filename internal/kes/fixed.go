package kes

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"arca/internal/errs"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
)

// Errors of an Access.
var (
	ErrNoPolicy   = errs.New(errs.NotFound, "policy does not exist")
	ErrNoIdentity = errs.New(errs.NotFound, "identity does not exist")
)

// Fixed is the Access of policies that are all in memory.
type Fixed struct {
	Set *policy.Set
	Log *slog.Logger // is told, at the level debug, why somebody may not; nil is not
}

var _ Access = Fixed{}

// Authorize implements Access.
func (f Fixed) Authorize(_ context.Context, by Caller) error {
	err := f.Set.Authorize(by.Identity, by.Path)
	if err != nil && f.Log != nil {
		reason := "the identity is in no policy"
		if name, known := f.Set.Identities[by.Identity]; known {
			reason = "policy " + name + " has no rule that allows it, or one that denies it"
		}
		f.Log.Debug("request refused", "reason", reason, "path", by.Path, "identity", by.Identity)
	}
	return err
}

// Policy implements Access.
func (f Fixed) Policy(_ context.Context, _ Caller, name string) (*policy.Policy, error) {
	p := f.Set.Policies[name]
	if p == nil {
		return nil, ErrNoPolicy
	}
	return p, nil
}

// Policies implements Access.
func (f Fixed) Policies(_ context.Context, _ Caller, prefix, from string, n int) ([]string, string, error) {
	names, next := store.Page(slices.Collect(maps.Keys(f.Set.Policies)), prefix, from, n)
	return names, next, nil
}

// Identity implements Access.
func (f Fixed) Identity(_ context.Context, by Caller, id string) (*Person, error) {
	self := id == ""
	if self {
		id = by.Identity
	}
	if f.Set.IsAdmin(id) {
		return &Person{Admin: true, CreatedAt: f.Set.Since}, nil
	}
	name, ok := f.Set.Identities[id]
	if !ok {
		return nil, ErrNoIdentity
	}
	p := &Person{Policy: name, CreatedAt: f.Set.Since, CreatedBy: f.Set.Admin}
	if self {
		p.Rules = f.Set.Policies[name]
	}
	return p, nil
}

// Identities implements Access. The admin is one of them, as configured.
func (f Fixed) Identities(_ context.Context, _ Caller, prefix, from string, n int) ([]string, string, error) {
	all := slices.Collect(maps.Keys(f.Set.Identities))
	if f.Set.Admin != "" {
		all = append(all, f.Set.Admin)
	}
	ids, next := store.Page(all, prefix, from, n)
	return ids, next, nil
}
