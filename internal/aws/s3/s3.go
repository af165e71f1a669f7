// Package s3 keeps objects in a bucket of Amazon S3, or of a service that speaks its
// protocol (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html).
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"arca/internal/aws"
	"arca/internal/errs"
)

const (
	maxAnswer      = 16 << 20 // bytes of an answer that is not an object
	maxWords       = 256      // bytes of what the service says of an error
	requestTimeout = 10 * time.Minute
	attempts       = 4
	firstPause     = 200 * time.Millisecond // doubled with each attempt
)

// A Config says which bucket. Keys that are empty come from the environment.
type Config struct {
	Bucket, Region string
	Keys           aws.Keys
	Endpoint       string // host or address of the service; empty: Amazon's
	PathStyle      bool   // the bucket is in the path, not in the host's name
	DisableTLS     bool

	// How the service encrypts what it keeps: by AES-256, or by KMS and, if it is
	// named, one of its keys.
	SSE, KMS bool
	KMSKey   string

	HTTP *http.Client
	// Metadata asks what gives credentials, such as the machine.
	Metadata func(*http.Request) (*http.Response, error)
}

// A Bucket is safe for concurrent use.
type Bucket struct {
	cfg  Config
	base *url.URL // of the bucket, with a slash at its end
	keys *aws.Source
}

// Open checks the configuration; nothing is asked yet.
func Open(cfg Config) (*Bucket, error) {
	switch {
	case cfg.Bucket == "" || strings.ContainsAny(cfg.Bucket, "/?#%\\@: "):
		return nil, errs.New(errs.Invalid, "the name of the bucket is missing, or not one of S3")
	case cfg.Region == "" || strings.ContainsAny(cfg.Region, "/?#%\\@: "):
		return nil, errs.New(errs.Invalid, "the region is missing, such as us-east-1, or not one")
	case (cfg.Keys.Access == "") != (cfg.Keys.Secret == ""):
		return nil, errs.New(errs.Invalid, "an access key and its secret key are given together")
	case cfg.SSE && cfg.KMS:
		return nil, errs.New(errs.Invalid, "the service encrypts by AES-256 or by KMS, not by both")
	case cfg.KMSKey != "" && !cfg.KMS:
		return nil, errs.New(errs.Invalid, "a key of KMS is given, but that KMS encrypts is not")
	}
	scheme, host := "https", cfg.Endpoint
	if cfg.DisableTLS {
		scheme = "http"
	}
	if host == "" {
		host = "s3." + cfg.Region + ".amazonaws.com"
	}
	if before, after, ok := strings.Cut(host, "://"); ok {
		scheme, host = before, after
	}
	base, err := url.Parse(scheme + "://" + strings.TrimSuffix(host, "/") + "/")
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Path != "/" || scheme != "https" && scheme != "http" {
		return nil, errs.New(errs.Invalid, "%q is no address of a service that keeps objects, such as https://minio.example:9000", cfg.Endpoint)
	}
	if cfg.PathStyle {
		base.Path = "/" + cfg.Bucket + "/"
	} else {
		base.Host = cfg.Bucket + "." + base.Host
	}
	return &Bucket{cfg: cfg, base: base, keys: aws.NewSource(cfg.Keys, cfg.Region, cfg.Metadata)}, nil
}

// An Error is what the service answered instead.
type Error struct {
	Status  int
	Code    string // the service's word, such as NoSuchBucket
	Message string // shortened
	// Doubt says that an attempt before this answer ended without one: it may have been served.
	Doubt bool
}

// Error returns the service's words.
func (e *Error) Error() string {
	switch {
	case e.Code == "":
		return fmt.Sprintf("S3 answered %d %s", e.Status, http.StatusText(e.Status))
	case e.Message == "":
		return fmt.Sprintf("S3 answered %d %s", e.Status, e.Code)
	}
	return fmt.Sprintf("S3 answered %d %s: %s", e.Status, e.Code, e.Message)
}

// IsNotFound reports whether err says that there is no such object.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code != "NoSuchBucket"
}

// IsTaken reports whether err says that PutNew found an object, or another's request to make one.
func IsTaken(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == http.StatusPreconditionFailed || e.Status == http.StatusConflict)
}

// IsRefused reports whether err is an answer after which certainly nothing was written, by no attempt.
func IsRefused(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Doubt && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout
}

// URL is the address of an object, which is public knowledge.
func (b *Bucket) URL(key string) string { return b.address(key, nil).String() }

func (b *Bucket) address(key string, q url.Values) *url.URL {
	u := *b.base
	u.Path += key
	u.RawPath = escape(u.Path)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return &u
}

// escape escapes a path as S3 wants it signed: all but letters, digits, "-_.~" and "/".
func escape(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// A request is one question.
type request struct {
	method, key string
	query       url.Values
	header      http.Header
	body        []byte
	most        int64 // bytes of the answer; 0 is maxAnswer
}

// do asks, again after errors that may pass. An answer other than 2xx is an *Error.
func (b *Bucket) do(ctx context.Context, q *request) (answer []byte, header http.Header, err error) {
	pause, doubt := firstPause, false
	for try := 1; ; try++ {
		answer, header, err = b.once(ctx, q)
		var refused *Error
		if errors.As(err, &refused) {
			refused.Doubt = doubt
		}
		if err == nil || try == attempts || ctx.Err() != nil ||
			refused != nil && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
			return answer, header, err
		}
		doubt = doubt || refused == nil || refused.Status >= 500
		t := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // spreads retries
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, nil, err
		}
		pause *= 2
	}
}

func (b *Bucket) once(ctx context.Context, q *request) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	a, err := b.send(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer a.Body.Close()
	most := q.most
	if most == 0 || a.StatusCode/100 != 2 {
		most = maxAnswer
	}
	answer, err := io.ReadAll(io.LimitReader(a.Body, most+1))
	switch {
	case err != nil:
		return nil, nil, errs.New(errs.Unavailable, "S3 at %s ended its answer early: %w", b.base.Host, err)
	case int64(len(answer)) > most:
		return nil, nil, errs.New(errs.TooLarge, "S3 answered more than %d bytes", most)
	case a.StatusCode/100 != 2:
		return nil, nil, refusal(a.StatusCode, answer)
	}
	return answer, a.Header, nil
}

func (b *Bucket) send(ctx context.Context, q *request) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, b.address(q.key, q.query).String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	if err := b.keys.Sign(r, sha256.Sum256(q.body), "s3"); err != nil {
		return nil, err
	}
	a, err := b.cfg.HTTP.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, errs.New(errs.Unavailable, "S3 at %s cannot be reached: %w", b.base.Host, err)
	}
	return a, nil
}

// refusal reads what S3 says of an error. Its other members quote the request.
func refusal(status int, body []byte) *Error {
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	e := &Error{Status: status}
	if xml.Unmarshal(body, &said) == nil {
		e.Code, e.Message = words(said.Code), words(said.Message)
	}
	return e
}

func words(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return s
}

// kept are the headers of what begins an object.
func (b *Bucket) kept() http.Header {
	h := http.Header{}
	switch {
	case b.cfg.KMS:
		h.Set("X-Amz-Server-Side-Encryption", "aws:kms")
		if b.cfg.KMSKey != "" {
			h.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", b.cfg.KMSKey)
		}
	case b.cfg.SSE:
		h.Set("X-Amz-Server-Side-Encryption", "AES256")
	}
	return h
}

// Put stores an object, whole or not at all.
func (b *Bucket) Put(ctx context.Context, key string, body []byte) error {
	_, _, err := b.do(ctx, &request{method: http.MethodPut, key: key, header: b.kept(), body: body})
	return err
}

// PutNew stores an object unless there is one of that key: see IsTaken. As requests are repeated after errors, what is
// found may be what an earlier attempt of the same call has stored. It tells when that was by the service's clock; the zero
// time when the service does not say.
func (b *Bucket) PutNew(ctx context.Context, key string, body []byte) (at time.Time, err error) {
	h := b.kept()
	h.Set("If-None-Match", "*")
	_, header, err := b.do(ctx, &request{method: http.MethodPut, key: key, header: h, body: body})
	return date(header), err
}

func date(h http.Header) time.Time {
	t, _ := http.ParseTime(h.Get("Date")) // else it is the zero time
	return t
}

// Open begins to fetch an object of any length.
func (b *Bucket) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	a, err := b.send(ctx, &request{method: http.MethodGet, key: key})
	if err != nil {
		return nil, err
	}
	if a.StatusCode/100 == 2 {
		return a.Body, nil
	}
	defer a.Body.Close()
	said, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "S3 at %s ended its answer early: %w", b.base.Host, err)
	}
	return nil, refusal(a.StatusCode, said)
}

// Get fetches an object of at most most bytes. See IsNotFound.
func (b *Bucket) Get(ctx context.Context, key string, most int64) ([]byte, error) {
	body, _, err := b.do(ctx, &request{method: http.MethodGet, key: key, most: most})
	return body, err
}

// Delete removes an object; one that does not exist is none the less.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, _, err := b.do(ctx, &request{method: http.MethodDelete, key: key})
	return err
}

// An Object is one of a listing.
type Object struct {
	Key          string
	Size         int64     // bytes
	LastModified time.Time // by the service's clock
}

// A Page is a part of a listing, in order of the keys.
type Page struct {
	Objects []Object
	More    bool
	Now     time.Time // by the service's clock; the zero time when it does not tell
}

// Page lists the objects whose keys begin with prefix and come after another key; "" is all. S3 gives 1,000 of them at most.
func (b *Bucket) Page(ctx context.Context, prefix, after string) (Page, error) {
	q := url.Values{"list-type": {"2"}, "prefix": {prefix}}
	if after != "" {
		q.Set("start-after", after)
	}
	raw, header, err := b.do(ctx, &request{method: http.MethodGet, query: q})
	if err != nil {
		return Page{}, err
	}
	var list struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		Contents    []Object
		IsTruncated bool
	}
	if xml.Unmarshal(raw, &list) != nil {
		return Page{}, errs.New(errs.Unavailable, "S3's list of the objects is not one")
	}
	now := date(header)
	for i, o := range list.Contents {
		if !strings.HasPrefix(o.Key, prefix) || o.Key <= after || i > 0 && o.Key <= list.Contents[i-1].Key {
			return Page{}, errs.New(errs.Unavailable, "S3's list of the objects is not in order")
		}
	}
	if list.IsTruncated && len(list.Contents) == 0 {
		return Page{}, errs.New(errs.Unavailable, "S3's list of the objects does not go on")
	}
	return Page{list.Contents, list.IsTruncated, now}, nil
}

// List returns all objects whose keys begin with prefix, in order of the keys, and an error when there are more than most.
func (b *Bucket) List(ctx context.Context, prefix string, most int) ([]Object, error) {
	var all []Object
	for after := ""; ; after = all[len(all)-1].Key {
		page, err := b.Page(ctx, prefix, after)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Objects...)
		switch {
		case len(all) > most:
			return nil, errs.New(errs.TooLarge, "there are more than %d objects under %q", most, prefix)
		case !page.More:
			return all, nil
		}
	}
}
