package s3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"arca/internal/aws"
)

// TestService does everything against another's server of the protocol. It does not check signatures: TestSignature of
// the package aws does.
func TestService(t *testing.T) {
	t.Parallel()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	b := open(t, Config{Bucket: "backups", Endpoint: srv.URL, PathStyle: true})
	ctx := t.Context()

	if _, err := b.Get(ctx, "none", 10); !IsNotFound(err) {
		t.Errorf("an object that does not exist: %v", err)
	}
	const odd = "a/b c+d/é=&?#%.snap"
	if err := b.Put(ctx, odd, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(ctx, odd, 4); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.Get(ctx, odd, 3); err == nil {
		t.Error("an object that is too large was read")
	}
	for i := range 25 {
		if err := b.Put(ctx, fmt.Sprintf("many/%03d", i), make([]byte, i)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.List(ctx, "many/", 100)
	if err != nil || len(list) != 25 || list[7].Key != "many/007" || list[7].Size != 7 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := b.List(ctx, "many/", 24); err == nil {
		t.Error("a list that is too long was taken")
	}
	if err := errors.Join(b.Delete(ctx, "many/007"), b.Delete(ctx, "many/007")); err != nil {
		t.Error(err)
	}
	if list, err = b.List(ctx, "many/", 100); err != nil || len(list) != 24 {
		t.Errorf("%d, %v", len(list), err)
	}

	if page, err := b.Page(ctx, "many/", "many/021"); err != nil || len(page.Objects) != 3 || page.Objects[0].LastModified.IsZero() || page.Now.IsZero() {
		t.Errorf("%+v, %v", page, err)
	}
	if at, err := b.PutNew(ctx, "new", []byte("1")); err != nil || at.IsZero() {
		t.Error(at, err)
	}
	if _, err := b.PutNew(ctx, "new", []byte("2")); !IsTaken(err) {
		t.Errorf("an object was replaced: %v", err)
	}
	if in, err := b.Open(ctx, "new"); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(in); err != nil || string(got) != "1" || in.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.Open(ctx, "none"); !IsNotFound(err) {
		t.Error(err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // 48 MiB: three parts and a bit
	large = append(large, "end"...)
	for key, body := range map[string][]byte{"small.snap": []byte("small"), "empty.snap": nil, "large.snap": large} {
		up := b.Upload(ctx, key)
		if _, err := io.Copy(up, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(ctx, key, 1<<30); !IsNotFound(err) {
			t.Errorf("%s can be seen before it is whole: %v", key, err)
		}
		if err := up.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Get(ctx, key, 1<<30); err != nil || sha256.Sum256(got) != sha256.Sum256(body) {
			t.Errorf("%s: %d bytes of %d, %v", key, len(got), len(body), err)
		}
	}
	up := b.Upload(ctx, "dropped.snap")
	if _, err := up.Write(large); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(up.Abort(), up.Abort()); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(ctx, "dropped.snap", 1<<30); !IsNotFound(err) {
		t.Errorf("what was dropped: %v", err)
	}
}

func open(t *testing.T, cfg Config) *Bucket {
	t.Helper()
	cfg.Region, cfg.Keys = "us-east-1", aws.Keys{Access: "AK", Secret: "very secret"}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestErrors: what may pass is asked again, what may not is told with the service's words, and secrets are not.
func TestErrors(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var answer func(n int32, w http.ResponseWriter, r *http.Request)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(asked.Add(1), w, r) }))
	t.Cleanup(srv.Close)
	b := open(t, Config{Bucket: "b", Endpoint: srv.URL, PathStyle: true, KMS: true, KMSKey: "kk"})

	answer = func(n int32, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "kk" || string(body) != "text":
			w.WriteHeader(http.StatusBadRequest)
		case n < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	if err := b.Put(t.Context(), "k", []byte("text")); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}

	asked.Store(0)
	answer = func(_ int32, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no\nno</Message><StringToSign>%s</StringToSign></Error>", r.Header.Get("Authorization"))
	}
	err := b.Put(t.Context(), "k", []byte("text"))
	if err == nil || err.Error() != "S3 answered 403 AccessDenied: no no" || asked.Load() != 1 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}

	answer = func(_ int32, w http.ResponseWriter, r *http.Request) { // S3's errors after 200
		switch {
		case r.URL.Query().Has("uploads"):
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, "<Error><Code>InternalError</Code><Message>late</Message></Error>")
		}
	}
	up := b.Upload(t.Context(), "k")
	if _, err := up.Write(make([]byte, partBytes+1)); err != nil {
		t.Fatal(err)
	}
	if err := up.Commit(); err == nil || !strings.Contains(err.Error(), "InternalError") {
		t.Errorf("a late error: %v", err)
	}

	for _, bad := range []Config{
		{},
		{Bucket: "a/b", Region: "r"},
		{Bucket: "b"},
		{Bucket: "b", Region: "r", Keys: aws.Keys{Access: "a"}},
		{Bucket: "b", Region: "r", SSE: true, KMS: true},
		{Bucket: "b", Region: "r", KMSKey: "k"},
		{Bucket: "b", Region: "r", Endpoint: "ftp://h"},
		{Bucket: "b", Region: "r", Endpoint: "h/path"},
		{Bucket: "b", Region: "r", Endpoint: "u:p@h"},
	} {
		if _, err := Open(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	if got := open(t, Config{Bucket: "b"}).URL("x/y z"); got != "https://b.s3.us-east-1.amazonaws.com/x/y%20z" {
		t.Error(got)
	}
}
