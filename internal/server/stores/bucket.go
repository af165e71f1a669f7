package stores

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/aws"
	"arca/internal/aws/s3"
	"arca/internal/errs"
	"arca/internal/kes/store/rest"
	"arca/internal/storage/objects"
	"arca/internal/storage/remote"
)

const (
	// answerTime is how long S3 may take to begin its answer once it has a part.
	answerTime = 2 * time.Minute
	// loadTime bounds how long a start reads what is in a bucket, or in Consul: it may be a lot.
	loadTime = time.Hour
	// copyPrefix begins the folders that hold copies of what lies in buckets, or in Consul.
	copyPrefix = "arca-copy-"
)

// OpenBucket opens a bucket with a client of its own. AWS_CA_BUNDLE may name certificates to trust.
func OpenBucket(cfg s3.Config) (*s3.Bucket, error) {
	web, err := rest.NewHTTP(rest.TLS{CA: os.Getenv("AWS_CA_BUNDLE")})
	if err != nil {
		return nil, err
	}
	web.Timeout = 0 // a large part takes its time; each request has a deadline of its own
	if t, ok := web.Transport.(*http.Transport); ok {
		t.ResponseHeaderTimeout = answerTime
	}
	cfg.HTTP = web
	cfg.Metadata = func(r *http.Request) (*http.Response, error) { return rest.Metadata(web, r).Do(r) } //nolint:gosec // the operator's own environment names it
	return s3.Open(cfg)
}

func openS3(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
	region := cmp.Or(os.Getenv("AWS_S3_REGION"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), o.text("region"), "us-east-1")
	key := o.text("kms_key_id")
	cfg := s3.Config{
		Bucket: o.text("bucket"), Region: region, Endpoint: o.text("endpoint"), PathStyle: o.boolean("s3_force_path_style"),
		DisableTLS: o.boolean("disable_ssl"), KMS: key != "", KMSKey: key,
		Keys: aws.Keys{Access: o.text("access_key"), Secret: o.text("secret_key"), Token: o.text("session_token")},
	}
	if o.err != nil {
		return nil, o.err
	}
	b, err := OpenBucket(cfg)
	if err != nil {
		return nil, err
	}
	dir, err := copyDir(log)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "make a folder for the local copy: %w", err)
	}
	return objects.Open(ctx, objects.Config{Store: objects.Bucket{Bucket: b}, Path: strings.Trim(o.text("path"), "/"), Dir: dir, Log: log})
}

// copyDir makes a folder for a copy: in the service's cache (of systemd) or the user's, as tidy programs remove what lies in the
// folder for temporary files for days, else in that one.
func copyDir(log *slog.Logger) (string, error) {
	service, _, _ := strings.Cut(os.Getenv("CACHE_DIRECTORY"), ":")
	user, _ := os.UserCacheDir() // "" where there is no home
	for _, parent := range [...]string{service, user} {
		if parent == "" || os.MkdirAll(parent, 0o700) != nil {
			continue
		}
		dropOldCopies(parent, log)
		if dir, err := os.MkdirTemp(parent, copyPrefix); err == nil { // else it cannot be written
			return dir, nil
		}
	}
	dropOldCopies(os.TempDir(), log)
	return os.MkdirTemp("", copyPrefix)
}

// dropOldCopies removes the copies of servers that were killed. Those of one that runs are locked.
func dropOldCopies(parent string, log *slog.Logger) {
	dirs, _ := filepath.Glob(filepath.Join(parent, copyPrefix+"*")) // a plain pattern
	for _, dir := range dirs {
		if !ownFolder(dir) {
			continue
		}
		lock, err := vfs.Default.Lock(filepath.Join(dir, objects.LockName))
		if err != nil {
			continue // somebody's, or it cannot be told
		}
		err = os.RemoveAll(dir)
		_ = lock.Close() // of a file that is gone
		if err != nil {
			log.Warn("remove the copy of a bucket that a server left", "error", err)
		}
	}
}
