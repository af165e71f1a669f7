package token

import (
	"fmt"
	"strings"
	"time"

	"arca/internal/errs"
)

// A TTLQuery asks how long a token or lease may live from now.
type TTLQuery struct {
	Now           time.Time
	Start         time.Time     // when it was first given; zero is now
	SystemDefault time.Duration // the mount's or the system's
	SystemMax     time.Duration
	Increment     time.Duration // asked for by the client
	Backend       time.Duration // what the role gives by default
	BackendMax    time.Duration
	Period        time.Duration
	ExplicitMax   time.Duration
}

// TTL answers a query by the rules of Vault: a period, capped by the maximum of
// the system, holds for ever; anything else ends at the strictest maximum
// counted from the start. It returns warnings about what was capped, and an
// error of kind Invalid when no time is left.
func TTL(q TTLQuery) (ttl time.Duration, warnings []string, err error) {
	now := q.Now.Truncate(time.Second)
	start := q.Start.Truncate(time.Second)
	if q.Start.IsZero() {
		start = now
	}
	limit := q.SystemMax
	for _, m := range [...]time.Duration{q.BackendMax, q.ExplicitMax} {
		if m > 0 && m < limit {
			limit = m
		}
	}
	left := start.Add(limit).Sub(now)
	if q.Period > 0 {
		ttl = q.Period
		if ttl > limit {
			warnings = append(warnings, capped("period", ttl, limit, "period"))
			ttl = limit
		}
		if q.ExplicitMax == 0 {
			return ttl, warnings, nil
		}
		left = start.Add(min(q.ExplicitMax, q.SystemMax)).Sub(now)
	} else {
		switch {
		case q.Increment > 0:
			ttl = q.Increment
		case q.Backend > 0:
			ttl = q.Backend
		default:
			ttl = q.SystemDefault
		}
	}
	if left <= 0 {
		return 0, nil, errs.New(errs.Invalid, "past the max TTL, cannot renew")
	}
	if ttl > left {
		if q.Increment > 0 || q.Backend > 0 {
			warnings = append(warnings, capped("TTL", ttl, left, "TTL"))
		}
		ttl = left
	}
	return ttl, warnings, nil
}

func capped(what string, asked, limit time.Duration, value string) string {
	return fmt.Sprintf("%s of %q exceeded the effective max_ttl of %q; %s value is capped accordingly",
		what, Short(asked), Short(limit), value)
}

// Short writes a duration without parts that are zero: 1h, not 1h0m0s.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
