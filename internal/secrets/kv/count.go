package kv

import (
	"context"

	"arca/internal/engine"
)

var (
	_ engine.Counter = v1{}
	_ engine.Counter = v2{}
)

// Count implements engine.Counter.
func (v1) Count(ctx context.Context, call *engine.Call, limit int) (int, error) {
	return countBelow(ctx, call, v1Dir, limit)
}

// Count implements engine.Counter.
func (v2) Count(ctx context.Context, call *engine.Call, limit int) (int, error) {
	n, err := countBelow(ctx, call, metaDir, limit)
	if err != nil || n >= limit {
		return n, err
	}
	old, err := countBelow(ctx, call, v1Dir, limit-n) // of version 1, not written since the upgrade
	return n + old, err
}

func countBelow(ctx context.Context, call *engine.Call, dir string, limit int) (n int, err error) {
	for _, err := range call.Tx.Sub(dir).Keys("", "") {
		if err != nil {
			return 0, err
		}
		if n++; n >= limit {
			break
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return n, nil
}
