package kes

import (
	"context"
	"errors"
	"time"

	"arca/internal/kes/cache"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

// Cached is the Keys of a key store behind a cache.
type Cached struct{ Cache *cache.Cache }

var _ Keys = Cached{}

// Create implements Keys.
func (c Cached) Create(ctx context.Context, by Caller, name string, secret []byte, cipher key.Cipher) error {
	if err := key.CheckName(name); err != nil {
		return newName(ctx, c, by, name, err)
	}
	var made *key.Key
	var err error
	if secret == nil {
		made, err = key.New(cipher, time.Now(), by.Identity)
	} else {
		made, err = key.Import(secret, cipher, time.Now(), by.Identity)
	}
	if err != nil {
		return err
	}
	return c.Cache.Create(ctx, name, made)
}

// newName is the error for a name of which no key is made: refusal, unless there is one.
func newName(ctx context.Context, keys Keys, by Caller, name string, refusal error) error {
	_, err := keys.Describe(ctx, by, name)
	switch {
	case err == nil:
		return store.ErrExists
	case errors.Is(err, store.ErrNotFound):
		return refusal
	}
	return err
}

// Describe implements Keys.
func (c Cached) Describe(ctx context.Context, _ Caller, name string) (Description, error) {
	k, err := c.Cache.Get(ctx, name)
	if err != nil {
		return Description{}, err
	}
	return Description{Cipher: k.Cipher, ID: k.ID(), CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy}, nil
}

// Delete implements Keys.
func (c Cached) Delete(ctx context.Context, _ Caller, name string) error {
	return c.Cache.Delete(ctx, name)
}

// List implements Keys.
func (c Cached) List(ctx context.Context, _ Caller, prefix, from string, n int) ([]string, string, error) {
	return c.Cache.List(ctx, prefix, from, n)
}

// Encrypt implements Keys.
func (c Cached) Encrypt(ctx context.Context, _ Caller, name string, plaintext, context []byte) ([]byte, error) {
	k, err := c.Cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.Encrypt(plaintext, context)
}

// Decrypt implements Keys.
func (c Cached) Decrypt(ctx context.Context, _ Caller, name string, sealed []Sealed) ([][]byte, error) {
	k, err := c.Cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, len(sealed))
	for _, s := range sealed {
		plaintext, err := k.Decrypt(s.Ciphertext, s.Context)
		if err != nil {
			return nil, err
		}
		out = append(out, plaintext)
	}
	return out, nil
}

// HMAC implements Keys.
func (c Cached) HMAC(ctx context.Context, _ Caller, name string, message []byte) ([]byte, error) {
	k, err := c.Cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.HMAC(message)
}

// Status implements Keys.
func (c Cached) Status(ctx context.Context, _ Caller) (time.Duration, error) {
	return c.Cache.Status(ctx)
}
