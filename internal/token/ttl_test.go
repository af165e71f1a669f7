package token

import (
	"slices"
	"testing"
	"time"

	"arca/internal/errs"
)

func TestTTL(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	cases := []struct {
		name     string
		q        TTLQuery // Now, SystemDefault and SystemMax are filled
		want     time.Duration
		warnings []string
		err      string
	}{
		{name: "the system's", want: day},
		{name: "the role's", q: TTLQuery{Backend: time.Hour}, want: time.Hour},
		{name: "asked for", q: TTLQuery{Backend: time.Hour, Increment: 2 * time.Hour}, want: 2 * time.Hour},
		{
			name: "capped by the system", q: TTLQuery{Increment: 100 * day}, want: 32 * day,
			warnings: []string{`TTL of "2400h" exceeded the effective max_ttl of "768h"; TTL value is capped accordingly`},
		},
		{
			name: "capped by the role", q: TTLQuery{Increment: 2 * day, BackendMax: 36 * time.Hour}, want: 36 * time.Hour,
			warnings: []string{`TTL of "48h" exceeded the effective max_ttl of "36h"; TTL value is capped accordingly`},
		},
		{name: "the strictest counts", q: TTLQuery{Increment: time.Minute, BackendMax: time.Hour, ExplicitMax: time.Minute}, want: time.Minute},
		{name: "a default is capped in silence", q: TTLQuery{ExplicitMax: time.Hour}, want: time.Hour},
		{name: "a larger explicit maximum", q: TTLQuery{ExplicitMax: 100 * day, Start: now.Add(-32*day + time.Hour)}, want: time.Hour},
		{name: "what is left", q: TTLQuery{Start: now.Add(-31 * day), Increment: day}, want: day},
		{
			name: "what is left is less", q: TTLQuery{Start: now.Add(-31*day - 12*time.Hour), Increment: day}, want: 12 * time.Hour,
			warnings: []string{`TTL of "24h" exceeded the effective max_ttl of "12h"; TTL value is capped accordingly`},
		},
		{name: "nothing is left", q: TTLQuery{Start: now.Add(-32 * day)}, err: "past the max TTL, cannot renew"},
		{name: "a period", q: TTLQuery{Period: time.Hour, Increment: time.Minute}, want: time.Hour},
		{name: "a period goes on for ever", q: TTLQuery{Period: time.Hour, Start: now.Add(-365 * day)}, want: time.Hour},
		{
			name: "a period is capped", q: TTLQuery{Period: 100 * day}, want: 32 * day,
			warnings: []string{`period of "2400h" exceeded the effective max_ttl of "768h"; period value is capped accordingly`},
		},
		{
			name: "also by the role", q: TTLQuery{Period: 2 * time.Hour, BackendMax: time.Hour, Start: now.Add(-365 * day)}, want: time.Hour,
			warnings: []string{`period of "2h" exceeded the effective max_ttl of "1h"; period value is capped accordingly`},
		},
		{name: "a period ends with the explicit maximum", q: TTLQuery{Period: time.Hour, ExplicitMax: 2 * time.Hour, Start: now.Add(-90 * time.Minute)}, want: 30 * time.Minute},
		{name: "and not later", q: TTLQuery{Period: time.Hour, ExplicitMax: 2 * time.Hour, Start: now.Add(-2 * time.Hour)}, err: "past the max TTL, cannot renew"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.q.Now, c.q.SystemDefault, c.q.SystemMax = now, day, 32*day
			got, warnings, err := TTL(c.q)
			if c.err != "" {
				if err == nil || err.Error() != c.err || !errs.Is(err, errs.Invalid) {
					t.Fatalf("got %s and %v, want %s", got, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !slices.Equal(warnings, c.warnings) {
				t.Errorf("warnings %q, want %q", warnings, c.warnings)
			}
		})
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 61 * time.Second: "1m1s",
		10 * time.Minute: "10m", 20 * time.Hour: "20h", 1500 * time.Millisecond: "1.5s",
	} {
		if got := Short(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}
