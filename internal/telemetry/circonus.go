package telemetry

import (
	"fmt"
	stdlog "log"
	"log/slog"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/go-metrics/circonus"
)

// Circonus says how metrics get there; the fields are those of the telemetry
// stanza. Nothing is sent without Token or SubmissionURL.
type Circonus struct {
	Token, App, URL, Interval                                                       string
	SubmissionURL, CheckID, ForceActivation, InstanceID, SearchTag, Tags, CheckName string
	BrokerID, BrokerTag                                                             string
}

func (c *Circonus) wanted() bool { return c.Token != "" || c.SubmissionURL != "" }

func (c *Circonus) sink(log *slog.Logger) (metrics.MetricSink, error) {
	cfg := &circonus.Config{Interval: c.Interval, Log: stdlog.New(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer(), "", 0)}
	cfg.CheckManager.API.TokenKey, cfg.CheckManager.API.TokenApp, cfg.CheckManager.API.URL = c.Token, c.App, c.URL
	check := &cfg.CheckManager.Check
	check.SubmissionURL, check.ID, check.ForceMetricActivation = c.SubmissionURL, c.CheckID, c.ForceActivation
	check.InstanceID, check.SearchTag, check.Tags, check.DisplayName = c.InstanceID, c.SearchTag, c.Tags, c.CheckName
	cfg.CheckManager.Broker.ID, cfg.CheckManager.Broker.SelectTag = c.BrokerID, c.BrokerTag
	if cfg.CheckManager.API.TokenApp == "" {
		cfg.CheckManager.API.TokenApp = "vault"
	}
	if check.DisplayName == "" {
		check.DisplayName = "Vault"
	}
	if check.SearchTag == "" {
		check.SearchTag = "service:vault"
	}
	s, err := circonus.NewCirconusSink(cfg)
	if err != nil {
		return nil, fmt.Errorf("circonus: %w", err)
	}
	s.Start()
	return s, nil
}
