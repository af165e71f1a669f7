package sys

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"arca/internal/activity"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
)

// counterRoutes tell who uses the server: sys/internal/counters.
func (e *Engine) counterRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("internal/counters/entities", e.countEntities, engine.ID("internal-count-entities"), engine.Help("Count the entities.")),
		engine.Read("internal/counters/tokens", e.countTokens, engine.ID("internal-count-tokens"), engine.Help("Count the service tokens.")),
		engine.Read("internal/counters/requests", gone, engine.ID("internal-count-requests"), engine.Help("Gone.")),
		engine.Read("internal/counters/activity", e.clients, engine.ID("internal-client-activity-report-counts"),
			engine.Help("Count the clients in a time.")),
		engine.Read("internal/counters/activity/monthly", e.clientsOfMonth, engine.ID("internal-client-activity-report-counts-this-month"),
			engine.Help("Count the clients in this month.")),
		engine.Read("internal/counters/config", e.readCounters, engine.RootOnly, engine.ID("internal-client-activity-read-configuration"),
			engine.Help("Show whether clients are counted.")),
		engine.Write("internal/counters/config", e.writeCounters, engine.RootOnly, engine.ID("internal-client-activity-configure"),
			engine.Help("Set whether clients are counted.")),
		engine.Read("internal/counters/makers", e.makers, engine.ActiveOnly, engine.ID("internal-count-makers"),
			engine.Help("Show who makes the most tokens and leases just now.")),
	}
}

// maxCounted bounds what a count of tokens walks over.
const maxCounted = 1_000_000

func (e *Engine) countEntities(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	n, err := desks(call).Identity.CountEntities(call.Tx, ns(call), maxCounted)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"counters": map[string]any{"entities": map[string]any{"total": n}}}), nil
}

func (e *Engine) countTokens(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	n, err := desks(call).Tokens.Count(call.Tx, ns(call), maxCounted)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"counters": map[string]any{"service_tokens": map[string]any{"total": n}}}), nil
}

type clientsIn struct {
	Start time.Time `api:"start_time" help:"Begin of the time: RFC 3339 or seconds since 1970. By default so many months ago as are reported."`
	End   time.Time `api:"end_time" help:"End of the time; by default now."`
	Limit int       `api:"limit_namespaces" help:"Show so many namespaces, those with the most clients; 0 is all."`
}

func (e *Engine) clients(_ context.Context, call *engine.Call, in clientsIn) (*engine.Response, error) {
	s, err := activity.ReadSettings(call.Tx)
	if err != nil {
		return nil, err
	}
	if in.End.IsZero() || in.End.After(call.Now) {
		in.End = call.Now
	}
	if in.Start.IsZero() {
		in.Start = (activity.MonthOf(in.End) - activity.Month(s.Report) + 1).Start()
	}
	if in.Start.After(in.End) {
		return nil, errs.New(errs.Invalid, "start_time is later than end_time")
	}
	first, last := activity.MonthOf(in.Start), activity.MonthOf(in.End)
	first = max(first, last-activity.MaxRetention) // nothing older is kept
	r, err := newReport(call, first, last)
	if err != nil {
		return nil, err
	}
	if len(r.counts) == 0 {
		return &engine.Response{Raw: &engine.Raw{Status: http.StatusNoContent}}, nil
	}
	return data(map[string]any{
		"start_time": first.Start().Format(time.RFC3339), "end_time": (last + 1).Start().Add(-time.Second).Format(time.RFC3339),
		"total": showNumber(r.sum(r.counts, fresh)), "by_namespace": r.namespaces(r.counts, fresh, in.Limit), "months": r.months(first, last, in.Limit),
	}), nil
}

func (e *Engine) clientsOfMonth(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	now := activity.MonthOf(call.Now)
	r, err := newReport(call, now, now)
	if err != nil {
		return nil, err
	}
	if len(r.counts) == 0 {
		return &engine.Response{Raw: &engine.Raw{Status: http.StatusNoContent}}, nil
	}
	out := showNumber(r.sum(r.counts, all))
	out["by_namespace"], out["months"] = r.namespaces(r.counts, all, 0), r.months(now, now, 0)
	return data(out), nil
}

// A report puts counts together as they are shown.
type report struct {
	call   *engine.Call
	counts []activity.Count
	paths  map[string]string // of the namespaces that can be seen, by id; "" and false of others
	hidden map[string]bool
}

func all(c activity.Count) activity.Number   { return c.All }
func fresh(c activity.Count) activity.Number { return c.New }

func newReport(call *engine.Call, first, last activity.Month) (*report, error) {
	r := &report{call: call, paths: map[string]string{}, hidden: map[string]bool{}}
	var failed error
	counts, err := activity.Read(call.Tx, first, last, func(id string) bool {
		seen, err := r.sees(id)
		failed = errors.Join(failed, err)
		return seen
	})
	r.counts = counts
	return r, errors.Join(err, failed)
}

// sees reports whether who asks may see a namespace: its own and those below; the
// root also sees what was deleted.
func (r *report) sees(id string) (bool, error) {
	if _, known := r.paths[id]; known {
		return true, nil
	}
	if r.hidden[id] {
		return false, nil
	}
	n, err := desks(r.call).Namespaces.ByID(r.call.Tx, id)
	var path string
	var seen bool
	switch {
	case errors.Is(err, namespace.ErrNotFound):
		path, seen = "deleted namespace "+id, r.call.NamespacePath == ""
	case err != nil:
		return false, err
	default:
		path, seen = n.Path, strings.HasPrefix(n.Path, r.call.NamespacePath)
	}
	if seen {
		r.paths[id] = path
	} else {
		r.hidden[id] = true
	}
	return seen, nil
}

func (r *report) sum(counts []activity.Count, of func(activity.Count) activity.Number) (n activity.Number) {
	for _, c := range counts {
		n.Add(of(c))
	}
	return n
}

// showNumber shows clients under the present and the older names.
func showNumber(n activity.Number) map[string]any {
	return map[string]any{
		"clients": n.Total(), "entity_clients": n.Entities, "non_entity_clients": n.NonEntities, "secret_syncs": 0, "acme_clients": 0,
		"distinct_entities": n.Entities, "non_entity_tokens": n.NonEntities,
	}
}

func (r *report) namespaces(counts []activity.Count, of func(activity.Count) activity.Number, limit int) []any {
	by := map[string]map[string]activity.Number{} // namespace, mount
	for _, c := range counts {
		if by[c.Namespace] == nil {
			by[c.Namespace] = map[string]activity.Number{}
		}
		n := by[c.Namespace][c.Mount]
		n.Add(of(c))
		by[c.Namespace][c.Mount] = n
	}
	total := func(id string) (n int) {
		for _, m := range by[id] {
			n += m.Total()
		}
		return n
	}
	ids := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		if d := total(b) - total(a); d != 0 {
			return d
		}
		return strings.Compare(r.paths[a], r.paths[b])
	})
	if limit > 0 {
		ids = ids[:min(limit, len(ids))]
	}
	out := make([]any, 0, len(ids))
	for _, id := range ids {
		sum, mounts := activity.Number{}, make([]any, 0, len(by[id]))
		for _, m := range slices.Sorted(maps.Keys(by[id])) {
			n := by[id][m]
			sum.Add(n)
			path, typ := r.mount(id, m)
			mounts = append(mounts, map[string]any{"mount_path": path, "mount_type": typ, "counts": showNumber(n)})
		}
		out = append(out, map[string]any{"namespace_id": id, "namespace_path": r.paths[id], "counts": showNumber(sum), "mounts": mounts})
	}
	return out
}

func (r *report) mount(ns, accessor string) (path, typ string) {
	if accessor == "" {
		return "auth/token/", "ns_token/"
	}
	m, err := desks(r.call).Mounts.ByAccessor(r.call.Tx, ns, accessor)
	if err != nil {
		return "deleted mount; accessor " + accessor, "deleted mount"
	}
	return m.Path, m.Type + "/"
}

func (r *report) months(first, last activity.Month, limit int) []any {
	out := []any{}
	for m := first; m <= last; m++ {
		var counts []activity.Count
		for _, c := range r.counts {
			if c.Month == m {
				counts = append(counts, c)
			}
		}
		show := map[string]any{"timestamp": m.Start().Format(time.RFC3339), "counts": nil, "namespaces": nil, "new_clients": nil}
		if len(counts) > 0 {
			show["counts"], show["namespaces"] = showNumber(r.sum(counts, all)), r.namespaces(counts, all, limit)
			show["new_clients"] = map[string]any{"counts": showNumber(r.sum(counts, fresh)), "namespaces": r.namespaces(counts, fresh, limit)}
		}
		out = append(out, show)
	}
	return out
}

func (e *Engine) readCounters(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	s, err := activity.ReadSettings(call.Tx)
	if err != nil {
		return nil, err
	}
	enabled := map[string]string{"default": "default-enabled", "enable": "enabled", "disable": "disabled"}[s.Enabled]
	r, err := newReport(call, activity.MonthOf(call.Now)-activity.Month(s.Retention), activity.MonthOf(call.Now))
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"enabled": enabled, "retention_months": s.Retention, "default_report_months": s.Report, "queries_available": len(r.counts) > 0,
		"minimum_retention_months": activity.MinRetention, "reporting_enabled": false,
	}), nil
}

type countersIn struct {
	Enabled   string `api:"enabled" help:"enable, disable, or default, which is enable."`
	Retention *int   `api:"retention_months" help:"How many months clients are kept for."`
	Report    *int   `api:"default_report_months" help:"Months of a report for which no start is given."`
}

func (e *Engine) writeCounters(_ context.Context, call *engine.Call, in countersIn) (*engine.Response, error) {
	s, err := activity.ReadSettings(call.Tx)
	if err != nil {
		return nil, err
	}
	switch in.Enabled {
	case "":
	case "enable", "disable", "default":
		s.Enabled = in.Enabled
	default:
		return nil, errs.New(errs.Invalid, "enabled must be one of \"default\", \"enable\", \"disable\"")
	}
	for _, n := range []struct {
		name string
		from *int
		into *int
	}{{"retention_months", in.Retention, &s.Retention}, {"default_report_months", in.Report, &s.Report}} {
		if n.from == nil {
			continue
		}
		if *n.from < activity.MinRetention || *n.from > activity.MaxRetention {
			return nil, errs.New(errs.Invalid, "%s must be from %d to %d", n.name, activity.MinRetention, activity.MaxRetention)
		}
		*n.into = *n.from
	}
	return nil, activity.WriteSettings(call.Tx, s)
}

type makersIn struct {
	Kind  string `api:"kind" help:"token or lease; both by default."`
	Limit int    `api:"limit" help:"How many to show; 100 by default."`
}

func (e *Engine) makers(_ context.Context, call *engine.Call, in makersIn) (*engine.Response, error) {
	switch in.Kind {
	case "", activity.Tokens, activity.Leases:
	default:
		return nil, errs.New(errs.Invalid, "kind must be %q or %q", activity.Tokens, activity.Leases)
	}
	if in.Limit <= 0 {
		in.Limit = 100
	}
	out := []any{}
	top := desks(call).Makers.Top(in.Kind, in.Limit, call.Now, func(ns string) bool { return strings.HasPrefix(ns, call.NamespacePath) })
	for _, m := range top {
		out = append(out, map[string]any{
			"kind": m.Kind, "namespace": m.Namespace, "mount": m.Mount, "role": m.Role, "client": m.Client, "entity_id": m.EntityID,
			"total": m.Total, "total_error": m.AtMost, "per_minute": m.PerMinute, "last": m.Last.UTC().Format(time.RFC3339),
		})
	}
	return data(map[string]any{"makers": out, "since": desks(call).Since.Format(time.RFC3339)}), nil
}
