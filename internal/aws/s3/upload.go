package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"arca/internal/errs"
)

const (
	partBytes    = 16 << 20 // of the first parts
	partsOfASize = 1000     // then they are twice as large
	maxPartBytes = 128 << 20
	maxParts     = 10_000 // of S3; all together 1 TB
	abortTimeout = time.Minute
)

// An Upload stores an object of any length, which holds no more than one part of it
// in memory. Nothing is visible before Commit. Not safe for concurrent use.
type Upload struct {
	b     *Bucket
	ctx   context.Context // of the whole upload; io.Writer gives none
	key   string
	id    string // once there is a part
	size  int    // of the parts now
	buf   []byte
	parts []part
	ended bool
}

type part struct {
	PartNumber int
	ETag       string
}

// Upload begins to store an object. Commit or Abort ends it.
func (b *Bucket) Upload(ctx context.Context, key string) *Upload {
	return &Upload{b: b, ctx: ctx, key: key, size: partBytes}
}

// Write implements io.Writer.
func (u *Upload) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(u.buf) == u.size {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		most := min(len(p), u.size-len(u.buf))
		u.buf = append(u.buf, p[:most]...)
		p, n = p[most:], n+most
	}
	return n, nil
}

// send stores what is buffered as a part.
func (u *Upload) send() error {
	if u.id == "" {
		raw, _, err := u.b.do(u.ctx, &request{method: http.MethodPost, key: u.key, query: url.Values{"uploads": {""}}, header: u.b.kept()})
		if err != nil {
			return err
		}
		var begun struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			UploadID string   `xml:"UploadId"`
		}
		if xml.Unmarshal(raw, &begun) != nil || begun.UploadID == "" {
			return errs.New(errs.Unavailable, "S3 did not say how to go on with an upload")
		}
		u.id = begun.UploadID
	}
	n := len(u.parts) + 1
	if n > maxParts {
		return errs.New(errs.TooLarge, "the object has more than %d parts, which is the most that S3 takes", maxParts)
	}
	q := url.Values{"partNumber": {strconv.Itoa(n)}, "uploadId": {u.id}}
	_, header, err := u.b.do(u.ctx, &request{method: http.MethodPut, key: u.key, query: q, body: u.buf})
	if err != nil {
		return err
	}
	u.parts = append(u.parts, part{n, header.Get("ETag")})
	u.buf = u.buf[:0]
	if n%partsOfASize == 0 && u.size < maxPartBytes {
		u.size *= 2
		u.buf = nil
	}
	return nil
}

// Commit makes the object visible as it was written.
func (u *Upload) Commit() error {
	if u.id == "" {
		u.ended = true
		return u.b.Put(u.ctx, u.key, u.buf)
	}
	if len(u.buf) > 0 {
		if err := u.send(); err != nil {
			return err
		}
	}
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}{Part: u.parts})
	if err != nil {
		return err
	}
	raw, _, err := u.b.do(u.ctx, &request{method: http.MethodPost, key: u.key, query: url.Values{"uploadId": {u.id}}, body: body})
	if err != nil {
		return err
	}
	var done struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
	}
	if xml.Unmarshal(raw, &done) != nil { // S3 tells of a late error with status 200
		return refusal(http.StatusOK, raw)
	}
	u.ended = true
	return nil
}

// Abort drops what was not committed. It goes on when the upload's context has ended.
func (u *Upload) Abort() error {
	if u.ended || u.id == "" {
		return nil
	}
	u.ended = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), abortTimeout)
	defer cancel()
	_, _, err := u.b.do(ctx, &request{method: http.MethodDelete, key: u.key, query: url.Values{"uploadId": {u.id}}})
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil
	}
	return err
}
