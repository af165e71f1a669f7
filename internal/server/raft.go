package server

import (
	"strconv"
	"time"

	"arca/internal/cluster"
	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage/raft"
	"arca/internal/version"
)

// raftSettings is what the stanza storage "raft" says, without what the node itself knows.
type raftSettings struct {
	store    raft.Config
	share    cluster.Config
	maxEntry int
}

func readRaft(c *config.Config) (raftSettings, error) {
	s := c.Storage
	if c.DisableClustering {
		return raftSettings{}, errs.New(errs.Invalid, `disable_clustering cannot be set with storage "raft"`)
	}
	o := raftOptions{s: s}
	r := raftSettings{
		store: raft.Config{
			Multiplier: int(o.number("performance_multiplier", 10)), TrailingLogs: uint64(o.number("trailing_logs", 1<<40)),
			SnapshotThreshold: uint64(o.number("snapshot_threshold", 1<<40)), SnapshotInterval: o.duration("snapshot_interval"),
		},
		share: cluster.Config{
			Version: version.Compat(c.CompatVersion), UpgradeVersion: s.Options["autopilot_upgrade_version"], Zone: s.Options["autopilot_redundancy_zone"],
			NonVoter: o.boolean("retry_join_as_non_voter"), Reconcile: o.duration("autopilot_reconcile_interval"), Update: o.duration("autopilot_update_interval"),
		},
		maxEntry: int(o.number("max_entry_size", 1<<40)),
	}
	if o.err == nil && r.share.UpgradeVersion != "" {
		if err := cluster.ParseVersion(r.share.UpgradeVersion); err != nil {
			return r, errs.New(errs.Invalid, "%s: autopilot_upgrade_version: %w", s.Pos, err)
		}
	}
	return r, o.err
}

// CheckStorage returns what is wrong with a stanza storage "raft", as a start would find it. It opens nothing.
func CheckStorage(c *config.Config, getenv func(string) string) []error {
	if c.Storage == nil || c.Storage.Type != "raft" {
		return nil
	}
	var all []error
	if _, err := readRaft(c); err != nil {
		all = append(all, err)
	}
	for _, block := range c.Storage.RetryJoin {
		if _, err := retryRequest(block, getenv); err != nil {
			all = append(all, errs.New(errs.Invalid, "%s: retry_join: %w", c.Storage.Pos, err))
		}
	}
	return all
}

// raftOptions reads numbers and times of the stanza; it keeps the first error.
type raftOptions struct {
	s   *config.Storage
	err error
}

func (o *raftOptions) fail(name, text string, err error) {
	if o.err == nil {
		o.err = errs.New(errs.Invalid, "%s: %s of storage \"raft\" is %q: %w", o.s.Pos, name, text, err)
	}
}

func (o *raftOptions) number(name string, most int64) int64 {
	text := o.s.Options[name]
	if text == "" {
		return 0
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (v < 0 || v > most) {
		err = errs.New(errs.Invalid, "it must lie between 0 and %d", most)
	}
	if err != nil {
		o.fail(name, text, err)
	}
	return v
}

func (o *raftOptions) duration(name string) time.Duration {
	text := o.s.Options[name]
	if text == "" {
		return 0
	}
	d, err := param.ParseDuration(text)
	if err == nil && d < 0 {
		err = errs.New(errs.Invalid, "it cannot be negative")
	}
	if err != nil {
		o.fail(name, text, err)
	}
	return d
}

func (o *raftOptions) boolean(name string) bool {
	text := o.s.Options[name]
	if text == "" {
		return false
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		o.fail(name, text, err)
	}
	return v
}
