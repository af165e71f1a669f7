package telemetry

import (
	"context"
	stdlog "log"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/go-metrics/datadog"
)

// Sinks says which servers take metrics.
type Sinks struct {
	Statsite, Statsd, DogStatsD string // addresses, "" for none
	DogStatsDTags               []string
	Circonus                    Circonus
}

// Start hands metrics on until ctx ends. An address that does not resolve is
// tried again now and then: it stops nothing.
func (r *Registry) Start(ctx context.Context, s Sinks, log *slog.Logger) {
	makers := map[string]func() (metrics.MetricSink, error){}
	if s.Statsite != "" {
		makers["statsite"] = func() (metrics.MetricSink, error) { return metrics.NewStatsiteSink(s.Statsite) }
	}
	if s.Statsd != "" {
		makers["statsd"] = func() (metrics.MetricSink, error) { return metrics.NewStatsdSink(s.Statsd) }
	}
	if s.DogStatsD != "" {
		makers["dogstatsd"] = func() (metrics.MetricSink, error) {
			sink, err := datadog.NewDogStatsdSink(s.DogStatsD, r.host)
			if err == nil {
				sink.SetTags(s.DogStatsDTags)
			}
			return sink, err
		}
	}
	if s.Circonus.wanted() {
		makers["circonus"] = func() (metrics.MetricSink, error) { return s.Circonus.sink(log) }
	}
	if len(makers) == 0 {
		return
	}
	// The library tells of servers that it cannot reach by the standard logger.
	stdlog.SetFlags(0)
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelWarn).Writer())
	go r.run(ctx, makers, log)
}

func (r *Registry) run(ctx context.Context, makers map[string]func() (metrics.MetricSink, error), log *slog.Logger) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	var sinks []metrics.MetricSink
	for {
		for name, makeSink := range makers {
			sink, err := makeSink()
			if err != nil {
				log.Warn("telemetry: the server that takes metrics cannot be reached, trying again", "kind", name, "error", err)
				continue
			}
			delete(makers, name)
			sinks = append(sinks, sink)
			now := append([]metrics.MetricSink(nil), sinks...)
			r.sinks.Store(&now)
		}
		for _, g := range r.collect() {
			key := strings.Split(r.gaugeName(g.name), ".")
			for _, s := range sinks {
				s.SetGaugeWithLabels(key, float32(g.value), r.labels(g.labels))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.sending.Lock()
			defer r.sending.Unlock()
			r.sinks.Store(nil)
			for _, s := range sinks {
				if stop, ok := s.(metrics.ShutdownSink); ok {
					stop.Shutdown()
				}
			}
			return
		}
	}
}
