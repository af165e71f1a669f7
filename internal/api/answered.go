package api

import (
	"strconv"
	"sync"

	"arca/internal/telemetry"
)

// answered counts answers by their status, as core.response_status_code.
type answered struct {
	registry *telemetry.Registry
	by       sync.Map // of int to *telemetry.Counter
}

func (a *answered) count(code int) {
	if a.registry == nil {
		return
	}
	c, ok := a.by.Load(code)
	if !ok {
		text := strconv.Itoa(code)
		c, _ = a.by.LoadOrStore(code, a.registry.Counter(
			[]telemetry.Label{{Name: "code", Value: text}, {Name: "type", Value: text[:1] + "xx"}}, "core", "response_status_code"))
	}
	c.(*telemetry.Counter).Add(1) //nolint:forcetypeassert // nothing else is put there
}
