package config

import (
	"strings"
	"time"

	"arca/internal/config/source"
	"arca/internal/errs"
	"arca/internal/param"
)

// Telemetry is the telemetry stanza.
type Telemetry struct {
	StatsiteAddr        string        `conf:"statsite_address"`
	StatsdAddr          string        `conf:"statsd_address"`
	DisableHostname     bool          `conf:"disable_hostname"`
	EnableHostnameLabel bool          `conf:"enable_hostname_label"`
	MetricsPrefix       string        `conf:"metrics_prefix"`
	UsageGaugePeriod    string        `conf:"usage_gauge_period"`
	MaximumGauge        int           `conf:"maximum_gauge_cardinality"`
	PrometheusRetention time.Duration `conf:"prometheus_retention_time"`
	LeaseMetricsEpsilon string        `conf:"lease_metrics_epsilon"`
	LeaseBuckets        int           `conf:"num_lease_metrics_buckets"`
	AddLeaseNamespaces  bool          `conf:"add_lease_metrics_namespace_labels"`
	AddMountPoint       bool          `conf:"add_mount_point_rollback_metrics"`
	FilterDefault       *bool         `conf:"filter_default"`
	PrefixFilter        []string      `conf:"prefix_filter"`
	DogStatsDAddr       string        `conf:"dogstatsd_addr"`
	DogStatsDTags       []string      `conf:"dogstatsd_tags"`
	// TracesEndpoint is where traces go, by OTLP over HTTP.
	TracesEndpoint string `conf:"otlp_traces_endpoint"`
	Circonus
	Stackdriver

	Raw map[string]any // as written, for sys/config/state/sanitized
}

// Circonus are the settings of that sink.
type Circonus struct {
	CirconusToken      string `conf:"circonus_api_token"`
	CirconusApp        string `conf:"circonus_api_app"`
	CirconusURL        string `conf:"circonus_api_url"`
	CirconusInterval   string `conf:"circonus_submission_interval"`
	CirconusSubmission string `conf:"circonus_submission_url"`
	CirconusCheckID    string `conf:"circonus_check_id"`
	CirconusForce      string `conf:"circonus_check_force_metric_activation"`
	CirconusInstance   string `conf:"circonus_check_instance_id"`
	CirconusSearch     string `conf:"circonus_check_search_tag"`
	CirconusTags       string `conf:"circonus_check_tags"`
	CirconusName       string `conf:"circonus_check_display_name"`
	CirconusBroker     string `conf:"circonus_broker_id"`
	CirconusSelect     string `conf:"circonus_broker_select_tag"`
}

// Stackdriver are the settings of that sink.
type Stackdriver struct {
	StackdriverProject   string `conf:"stackdriver_project_id"`
	StackdriverLocation  string `conf:"stackdriver_location"`
	StackdriverNamespace string `conf:"stackdriver_namespace"`
	StackdriverDebugLogs bool   `conf:"stackdriver_debug_logs"`
}

// telemetry has no SetConfig, to be decoded without end.
type telemetry Telemetry

// SetConfig implements source.Setter.
func (t *Telemetry) SetConfig(it source.Item, d *source.Decoder) error {
	in := telemetry(*t)
	if err := d.Decode(it.Value, &in, "telemetry"); err != nil {
		return err
	}
	in.Raw = rawMap(it.Value)
	*t = Telemetry(in)
	return nil
}

// UsagePeriod is how often what is costly to count is counted; 0 is never.
func (t *Telemetry) UsagePeriod() time.Duration {
	if t.Raw == nil || t.UsageGaugePeriod == "none" {
		return 0
	}
	if d, err := param.ParseDuration(t.UsageGaugePeriod); err == nil && d > 0 {
		return max(d, time.Minute)
	}
	return 10 * time.Minute
}

// Epsilon is the width in time of a bucket of leases; 0 is the default.
func (t *Telemetry) Epsilon() time.Duration {
	d, _ := param.ParseDuration(t.LeaseMetricsEpsilon) // was checked
	return d
}

// check refuses periods that are none.
func (t *Telemetry) check() error {
	for name, v := range map[string]string{"usage_gauge_period": t.UsageGaugePeriod, "lease_metrics_epsilon": t.LeaseMetricsEpsilon} {
		if v == "" || v == "none" {
			continue
		}
		if _, err := param.ParseDuration(v); err != nil {
			return errs.New(errs.Invalid, "telemetry: %s: %w", name, err)
		}
	}
	return nil
}

// Allowed decides which metrics are told, by prefix_filter ("+vault.token",
// "-vault.expire"; the longest that fits counts) and filter_default; nil is all.
func (t *Telemetry) Allowed() func(name string) bool {
	standard := t.FilterDefault == nil || *t.FilterDefault
	if len(t.PrefixFilter) == 0 {
		if standard {
			return nil
		}
		return func(string) bool { return false }
	}
	return func(name string) bool {
		longest, allowed := -1, standard
		for _, rule := range t.PrefixFilter {
			if len(rule) > 1 && len(rule) > longest && strings.HasPrefix(name, rule[1:]) {
				longest, allowed = len(rule), rule[0] == '+'
			}
		}
		return allowed
	}
}
