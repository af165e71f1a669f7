package objects

import (
	"context"

	"arca/internal/aws/s3"
)

// Bucket is a Store: a bucket of S3, or of a service that speaks its protocol and has conditional writes.
type Bucket struct{ *s3.Bucket }

var _ Store = Bucket{}

// Upload implements Store.
func (b Bucket) Upload(ctx context.Context, key string) Upload { return b.Bucket.Upload(ctx, key) }

// Page implements Store.
func (b Bucket) Page(ctx context.Context, prefix, after string) (Page, error) {
	p, err := b.Bucket.Page(ctx, prefix, after)
	list := make([]Object, len(p.Objects))
	for i, o := range p.Objects {
		list[i] = Object(o)
	}
	return Page{Objects: list, More: p.More, Now: p.Now}, err
}

// IsNotFound implements Store.
func (Bucket) IsNotFound(err error) bool { return s3.IsNotFound(err) }

// IsTaken implements Store.
func (Bucket) IsTaken(err error) bool { return s3.IsTaken(err) }

// IsRefused implements Store.
func (Bucket) IsRefused(err error) bool { return s3.IsRefused(err) }
