package sys

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// autoRoutes are sys/storage/raft/snapshot-auto: snapshots by schedule, as in Vault Enterprise.
func (e *Engine) autoRoutes() []engine.Route {
	return []engine.Route{
		engine.List("storage/raft/snapshot-auto/config", e.listAuto, engine.Sudo, engine.RootOnly, engine.Help("List the schedules of snapshots.")),
		engine.Read("storage/raft/snapshot-auto/config/{name}", e.readAuto, engine.Sudo, engine.RootOnly, engine.Help("Read a schedule of snapshots.")),
		engine.Write("storage/raft/snapshot-auto/config/{name}", e.writeAuto, engine.Sudo, engine.RootOnly, engine.Help("Make snapshots by a schedule.")),
		engine.Delete("storage/raft/snapshot-auto/config/{name}", e.deleteAuto, engine.Sudo, engine.RootOnly, engine.Help("End a schedule. Its files stay.")),
		engine.Read("storage/raft/snapshot-auto/status/{name}", e.autoStatus, engine.Sudo, engine.RootOnly, engine.Help("Tell how the snapshots of a schedule went.")),
	}
}

type autoName struct {
	Name string `api:"name" help:"Name of the schedule."`
}

type autoIn struct {
	Name        string         `api:"name" help:"Name of the schedule."`
	Interval    *time.Duration `api:"interval" help:"Time between two snapshots."`
	Retain      *int           `api:"retain" help:"How many snapshots are kept; 1 if not given."`
	PathPrefix  *string        `api:"path_prefix" help:"The folder for the files, on the active node."`
	FilePrefix  *string        `api:"file_prefix" help:"Beginning of the files' names; vault-snapshot if not given."`
	StorageType *string        `api:"storage_type" help:"Where the files go: local or aws-s3."`
	MaxSpace    *int64         `api:"local_max_space" help:"Bytes that all files of the schedule may take; 0 for no bound."`
	autoS3
}

// autoS3 are the settings of storage_type aws-s3.
type autoS3 struct {
	Bucket       *string `api:"aws_s3_bucket" help:"The bucket."`
	Region       *string `api:"aws_s3_region" help:"The bucket's region."`
	AccessKey    *string `api:"aws_access_key_id" help:"Access key; from the environment or the machine if not given."`
	SecretKey    *string `api:"aws_secret_access_key" help:"Secret of the access key. It is not shown."`
	SessionToken *string `api:"aws_session_token" help:"Session token of the access key. It is not shown."`
	Endpoint     *string `api:"aws_s3_endpoint" help:"Address of a service that speaks the protocol of S3; Amazon's if not given."`
	DisableTLS   *bool   `api:"aws_s3_disable_tls" help:"Speak HTTP to the endpoint, for tests."`
	PathStyle    *bool   `api:"aws_s3_force_path_style" help:"The bucket is in the path of the address, not in its host."`
	SSE          *bool   `api:"aws_s3_server_side_encryption" help:"The service encrypts by AES-256."`
	KMS          *bool   `api:"aws_s3_enable_kms" help:"The service encrypts by KMS."`
	KMSKey       *string `api:"aws_s3_kms_key" help:"Key of KMS; the bucket's own if not given."`
}

// Storage types of Vault. google-gcs and azure-blob are refused with the same words as others.
const (
	inFolder = "local"
	inS3     = "aws-s3"
)

func (in *autoS3) apply(t *core.S3) {
	set(&t.Bucket, in.Bucket)
	set(&t.Region, in.Region)
	set(&t.AccessKey, in.AccessKey)
	set(&t.SecretKey, in.SecretKey)
	set(&t.SessionToken, in.SessionToken)
	set(&t.Endpoint, in.Endpoint)
	set(&t.DisableTLS, in.DisableTLS)
	set(&t.PathStyle, in.PathStyle)
	set(&t.SSE, in.SSE)
	set(&t.KMS, in.KMS)
	set(&t.KMSKey, in.KMSKey)
}

func (e *Engine) listAuto(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	names, err := core.AutoSnapshots(call.Tx)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return data(map[string]any{"keys": names}), nil
}

func (e *Engine) readAuto(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	s, _, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	if storage.IsNotFound(err) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"interval": int64(s.Interval / time.Second), "retain": s.Retain, "path_prefix": s.PathPrefix, "file_prefix": s.FilePrefix,
	}
	if t := s.S3; t != nil {
		maps.Copy(out, map[string]any{
			"storage_type": inS3, "aws_s3_bucket": t.Bucket, "aws_s3_region": t.Region, "aws_access_key_id": t.AccessKey,
			"aws_s3_endpoint": t.Endpoint, "aws_s3_disable_tls": t.DisableTLS, "aws_s3_force_path_style": t.PathStyle,
			"aws_s3_server_side_encryption": t.SSE, "aws_s3_enable_kms": t.KMS, "aws_s3_kms_key": t.KMSKey,
		})
	} else {
		out["storage_type"], out["local_max_space"] = inFolder, s.MaxSpace
	}
	return data(out), nil
}

func (e *Engine) writeAuto(_ context.Context, call *engine.Call, in autoIn) (*engine.Response, error) {
	s, _, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	isNew := errors.Is(err, storage.ErrNotFound)
	if isNew {
		s, err = core.AutoSnapshot{Retain: 1, FilePrefix: "vault-snapshot", Since: call.Now}, nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case isNew && in.StorageType == nil:
		return nil, errs.New(errs.Invalid, "storage_type must be given: local or aws-s3")
	case in.StorageType == nil:
	case *in.StorageType == inFolder:
		s.S3 = nil
	case *in.StorageType == inS3:
		if s.S3 == nil {
			s.S3, s.MaxSpace = &core.S3{}, 0
		}
	default:
		return nil, errs.New(errs.Invalid, "storage_type %q is not part of this version of arca: snapshots by schedule go to files (local) or to S3 (aws-s3)", *in.StorageType)
	}
	if s.S3 != nil {
		in.apply(s.S3)
	} else if in.autoS3 != (autoS3{}) {
		return nil, errs.New(errs.Invalid, "settings of S3 are for storage_type aws-s3")
	}
	changed := in.Interval != nil && *in.Interval != s.Interval
	set(&s.Interval, in.Interval)
	set(&s.Retain, in.Retain)
	set(&s.PathPrefix, in.PathPrefix)
	set(&s.FilePrefix, in.FilePrefix)
	set(&s.MaxSpace, in.MaxSpace)
	switch {
	case s.Interval < time.Second:
		return nil, errs.New(errs.Invalid, "interval must be given, and be a second at least")
	case s.Retain < 1:
		return nil, errs.New(errs.Invalid, "retain must be 1 at least")
	case s.S3 != nil && (s.PathPrefix == "" || strings.HasPrefix(s.PathPrefix, "/") || len(s.PathPrefix) > 512):
		return nil, errs.New(errs.Invalid, "path_prefix must be given: the beginning of the objects' keys, of 512 bytes at most, without a slash before it")
	case s.S3 != nil && s.MaxSpace != 0:
		return nil, errs.New(errs.Invalid, "local_max_space is for storage_type local")
	case s.S3 == nil && !filepath.IsAbs(s.PathPrefix):
		return nil, errs.New(errs.Invalid, "path_prefix must be given: the absolute path of a folder on the node that is the active one")
	case s.FilePrefix == "" || strings.ContainsAny(s.FilePrefix, "/\\\x00"):
		return nil, errs.New(errs.Invalid, "file_prefix must be the beginning of a file's name")
	case s.MaxSpace < 0:
		return nil, errs.New(errs.Invalid, "local_max_space cannot be negative")
	}
	if err := e.core.CheckAutoSnapshot(&s); err != nil {
		return nil, err
	}
	if isNew {
		names, err := core.AutoSnapshots(call.Tx)
		if err != nil {
			return nil, err
		}
		if len(names) >= core.MaxAutoSnapshots {
			return nil, errs.New(errs.Invalid, "there are %d schedules, and no more can be made", len(names))
		}
	}
	if changed {
		s.Since = call.Now
		if err := call.Tx.Delete(core.AutoStatusKey(in.Name)); err != nil {
			return nil, err
		}
	}
	call.Tx.OnCommit(e.core.RescheduleSnapshots)
	return nil, writeStored(call.Tx, core.AutoSnapshotKey(in.Name), s)
}

func (e *Engine) deleteAuto(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	if err := call.Tx.Delete(core.AutoSnapshotKey(in.Name)); err != nil {
		return nil, err
	}
	call.Tx.OnCommit(e.core.RescheduleSnapshots)
	return nil, call.Tx.Delete(core.AutoStatusKey(in.Name))
}

func (e *Engine) autoStatus(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	s, st, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	if storage.IsNotFound(err) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"consecutive_errors": st.Errors, "last_snapshot_start": st.LastStart, "last_snapshot_end": st.LastEnd,
		"last_snapshot_error": st.LastError, "last_snapshot_url": st.URL, "next_snapshot_start": s.Due(&st),
	}), nil
}
