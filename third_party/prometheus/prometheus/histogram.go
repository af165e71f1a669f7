// Package prometheus has what Pebble calls of the module github.com/prometheus/client_golang: go.mod puts it in that
// module's place. Pebble fills a few histograms and leaves it to its caller to publish them. arca's metrics are put
// together by internal/telemetry and do not ask for these, so what is observed here goes nowhere; see
// docs/adr/0016-two-modules-replaced.md.
package prometheus

import "math"

// Histogram takes what is observed.
type Histogram interface {
	Observe(value float64)
}

// HistogramOpts are the options of NewHistogram that Pebble sets.
type HistogramOpts struct {
	Buckets []float64
}

// NewHistogram makes a histogram that nobody reads, and which therefore keeps nothing.
func NewHistogram(HistogramOpts) Histogram { return unread{} }

type unread struct{}

func (unread) Observe(float64) {}

// LinearBuckets are count upper bounds, the first at start, each width above the one before.
func LinearBuckets(start, width float64, count int) []float64 {
	buckets := make([]float64, count)
	for i := range buckets {
		buckets[i] = start + float64(i)*width
	}
	return buckets
}

// ExponentialBucketsRange are count upper bounds from lowest to highest, each the same multiple of the one before.
func ExponentialBucketsRange(lowest, highest float64, count int) []float64 {
	buckets := make([]float64, count)
	growth := math.Pow(highest/lowest, 1/float64(count-1))
	for i := range buckets {
		buckets[i] = lowest * math.Pow(growth, float64(i))
	}
	return buckets
}
