package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// putBackWithin bounds how long it is tried to put a value back.
const putBackWithin = 30 * time.Second

// Replace is Set for a store that can only delete a value and create another. When the
// new one cannot be created, it puts back what was there, even if ctx has ended; the
// error says so if that fails, too.
func Replace(ctx context.Context, s interface {
	Create(ctx context.Context, name string, value []byte) error
	Get(ctx context.Context, name string) ([]byte, error)
	Delete(ctx context.Context, name string) error
}, name string, value []byte,
) error {
	old, err := s.Get(ctx, name)
	defer clear(old)
	if errors.Is(err, ErrNotFound) {
		return s.Create(ctx, name, value)
	}
	if err != nil {
		return fmt.Errorf("read the value that is replaced, to put it back if need be: %w", err)
	}
	if err = s.Delete(ctx, name); err == nil || errors.Is(err, ErrNotFound) {
		err = s.Create(ctx, name, value)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackWithin)
	defer cancel()
	if again := s.Create(ctx, name, old); again != nil && !errors.Is(again, ErrExists) {
		return fmt.Errorf("%w; what was there before is deleted, and cannot be put back: %w", err, again)
	}
	return err
}
