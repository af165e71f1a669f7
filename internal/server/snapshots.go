package server

import (
	"context"
	"strings"

	"arca/internal/aws"
	"arca/internal/aws/s3"
	"arca/internal/core"
	"arca/internal/server/stores"
)

// maxListed bounds the objects that are looked through for old snapshots.
const maxListed = 100_000

// A bucket is where a schedule's snapshots go: the objects whose keys begin with prefix.
type bucket struct {
	b      *s3.Bucket
	prefix string // empty, or ends with a slash
}

// openBucket is core's way to S3.
func openBucket(prefix string, t *core.S3) (core.SnapshotPlace, error) {
	b, err := stores.OpenBucket(s3.Config{
		Bucket: t.Bucket, Region: t.Region, Keys: aws.Keys{Access: t.AccessKey, Secret: t.SecretKey, Token: t.SessionToken},
		Endpoint: t.Endpoint, PathStyle: t.PathStyle, DisableTLS: t.DisableTLS, SSE: t.SSE, KMS: t.KMS, KMSKey: t.KMSKey,
	})
	if err != nil {
		return nil, err
	}
	return &bucket{b, strings.TrimRight(prefix, "/") + "/"}, nil
}

// Create implements core.SnapshotPlace.
func (b *bucket) Create(ctx context.Context, name string) (core.NewSnapshot, error) {
	key := b.prefix + name
	return &upload{b.b.Upload(ctx, key), b.b.URL(key)}, nil
}

// List implements core.SnapshotPlace.
func (b *bucket) List(ctx context.Context, prefix string) ([]core.SnapshotFile, error) {
	list, err := b.b.List(ctx, b.prefix+prefix, maxListed)
	if err != nil {
		return nil, err
	}
	files := make([]core.SnapshotFile, len(list))
	for i, o := range list {
		files[i] = core.SnapshotFile{Name: strings.TrimPrefix(o.Key, b.prefix), Bytes: o.Size}
	}
	return files, nil
}

// Remove implements core.SnapshotPlace.
func (b *bucket) Remove(ctx context.Context, name string) error {
	return b.b.Delete(ctx, b.prefix+name)
}

type upload struct {
	*s3.Upload
	url string
}

// Commit implements core.NewSnapshot.
func (u *upload) Commit() (string, error) { return u.url, u.Upload.Commit() }
