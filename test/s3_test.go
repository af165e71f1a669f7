package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// newS3 is a server of S3's protocol with a bucket, by others.
func newS3(t *testing.T, bucket string) (backend *s3mem.Backend, url string) {
	t.Helper()
	backend = s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	return backend, srv.URL
}

func s3Stanza(bucket, url string) string {
	return fmt.Sprintf("storage \"s3\" {\n  bucket = %q\n  endpoint = %q\n  path = \"vault/data\"\n  access_key = \"AK\"\n  secret_key = \"SK\"\n  s3_force_path_style = \"true\"\n}\n", bucket, url)
}

// TestCrashS3 is TestCrash on S3.
func TestCrashS3(t *testing.T) {
	t.Parallel()
	_, url := newS3(t, "secrets")
	crashTest(t, "disable_mlock = true\n"+s3Stanza("secrets", url)+plainListener)
}

// TestSnapshotsToS3: snapshots by schedule go to a bucket, old ones go, and one of them can be restored. A bucket that does
// not exist is told of in the schedule's status.
func TestSnapshotsToS3(t *testing.T) {
	t.Parallel()
	backend, url := newS3(t, "backups")
	objects := func() (keys []string) {
		list, err := backend.ListBucket("backups", &gofakes3.Prefix{HasPrefix: true, Prefix: "vault/"}, gofakes3.ListBucketPage{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			keys = append(keys, o.Key)
		}
		return keys
	}
	if _, err := backend.PutObject("backups", "vault/vault-snapshot-notes.txt", nil, strings.NewReader("others'"), 7, nil); err != nil {
		t.Fatal(err)
	}

	n := raftNode(t, "node1")
	n.start()
	n.initialise()
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	n.must("PUT", "secret/k", map[string]any{"v": "kept"})
	const config, status = "sys/storage/raft/snapshot-auto/config/s3", "sys/storage/raft/snapshot-auto/status/s3"
	schedule := map[string]any{
		"storage_type": "aws-s3", "interval": "1s", "retain": 2, "path_prefix": "vault/", "aws_s3_bucket": "nosuch", "aws_s3_region": "us-east-1",
		"aws_access_key_id": "AK", "aws_secret_access_key": "verysecretkey", "aws_s3_endpoint": url, "aws_s3_force_path_style": true,
	}
	n.must("POST", config, schedule)
	await(t, "a failure", func() bool {
		return strings.Contains(n.get(status).text("data", "last_snapshot_error"), "NoSuchBucket")
	})
	n.must("DELETE", config, nil)
	schedule["aws_s3_bucket"] = "backups"
	n.must("POST", config, schedule)
	shown, err := json.Marshal(n.get(config).body)
	if err != nil || strings.Contains(string(shown), "verysecretkey") || !strings.Contains(string(shown), `"aws_s3_bucket":"backups"`) {
		t.Errorf("the schedule: %s, %v", shown, err)
	}
	await(t, "a snapshot", func() bool { return len(objects()) > 1 })
	first := objects()[0]
	await(t, "the first of three to be removed", func() bool {
		keys := objects()
		return len(keys) > 2 && keys[0] != first
	})
	n.must("DELETE", config, nil)
	keys := objects()
	if len(keys) > 4 || keys[len(keys)-1] != "vault/vault-snapshot-notes.txt" {
		t.Fatalf("objects: %q", keys)
	}
	newest := keys[len(keys)-2]

	n.must("PUT", "secret/k", map[string]any{"v": "changed"})
	object, err := backend.GetObject("backups", newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(object.Contents)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "got.snap")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	n.vault("operator", "raft", "snapshot", "restore", file)
	await(t, "the restored state", func() bool { return n.get("secret/k").text("data", "v") == "kept" })
}
