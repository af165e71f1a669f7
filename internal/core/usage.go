package core

import (
	"context"
	"time"

	"arca/internal/engine"
	"arca/internal/lease"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
	"arca/internal/telemetry"
	"arca/internal/token"
)

// A Usage says how often and how the gauges are found that need a walk over what
// is stored. With a Period of 0 they are not.
type Usage struct {
	Period     time.Duration
	Epsilon    time.Duration // width of a bucket of expire.leases.by_expiration; 0: one hour
	Buckets    int           // of them; 0: 168
	Namespaces bool          // ... by namespace, too
	Most       int           // series of one gauge; 0: 500
}

func (u *Usage) most() int {
	if u.Most <= 0 {
		return 500
	}
	return u.Most
}

// maxCounted bounds how much one gauge walks over.
const maxCounted = 1_000_000

// watchUsage finds the costly gauges now and then.
func (a *Active) watchUsage(ctx context.Context) {
	t := time.NewTicker(a.core.cfg.Usage.Period)
	defer t.Stop()
	defer a.core.meters.usage.Store(nil)
	for {
		list, err := a.usage(ctx, time.Now())
		if err == nil {
			a.core.meters.usage.Store(&list)
		} else if ctx.Err() == nil {
			a.core.log.Warn("count for telemetry", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// counting gathers gauges.
type counting struct {
	list    []counted
	cluster telemetry.Label
}

type counted struct {
	name   string
	value  int
	labels []telemetry.Label
}

func (c *counting) add(name string, n int, labels ...telemetry.Label) {
	labels = append([]telemetry.Label{c.cluster}, labels...)
	c.list = append(c.list, counted{name, n, labels})
}

func label(name, value string) telemetry.Label { return telemetry.Label{Name: name, Value: value} }

func (a *Active) usage(ctx context.Context, now time.Time) ([]counted, error) {
	c := &counting{cluster: label("cluster", a.Cluster.Name)}
	if err := a.countDue(ctx, c, now); err != nil {
		return nil, err
	}
	entities, left := 0, a.core.cfg.Usage.most()
	var below func(tx storage.Tx, n *namespace.Namespace) error
	below = func(tx storage.Tx, n *namespace.Namespace) error {
		if left--; left < 0 {
			return nil
		}
		found, err := a.countNamespace(ctx, tx, c, n)
		if err != nil {
			return err
		}
		entities += found
		children, err := a.Namespaces.List(tx, n, "", left+1)
		for _, child := range children {
			if err == nil {
				err = below(tx, child)
			}
		}
		return err
	}
	err := a.DB.View(ctx, func(tx storage.Tx) error {
		if err := countQuotas(tx, c); err != nil {
			return err
		}
		return below(tx, namespace.Root())
	})
	c.add("identity.num_entities", entities)
	return c.list, err
}

// countQuotas tells how far the quotas for leases are used up.
func countQuotas(tx storage.Tx, c *counting) error {
	rules, err := quota.List(tx, quota.Leases)
	if err != nil {
		return err
	}
	for _, r := range rules {
		n, err := quota.Count(tx, r.ID)
		if err != nil {
			return err
		}
		c.add("quota.lease_count.counter", n, label("name", r.Name), label("path", r.Path))
		c.add("quota.lease_count.max", r.Max, label("name", r.Name), label("path", r.Path))
	}
	return nil
}

// countNamespace counts what a namespace holds and returns how many entities.
func (a *Active) countNamespace(ctx context.Context, tx storage.Tx, c *counting, n *namespace.Namespace) (int, error) {
	ns := label("namespace", namespaceLabel(n.Path))
	tokens, err := a.Tokens.Count(tx, n.ID, maxCounted)
	if err != nil {
		return 0, err
	}
	c.add("token.count", tokens, ns)
	entities, err := a.Identity.CountEntities(tx, n.ID, maxCounted)
	if err != nil {
		return 0, err
	}
	c.add("identity.entity.count", entities, ns)
	mounts, err := a.Mounts.List(tx, n.ID, false)
	if err != nil {
		return 0, err
	}
	secrets := 0
	for _, m := range mounts[:min(len(mounts), a.core.cfg.Usage.most())] {
		counter, ok := m.Engine.(engine.Counter)
		if !ok || secrets >= maxCounted {
			continue
		}
		found, err := counter.Count(ctx, a.callFor(tx, m), maxCounted-secrets)
		if err != nil {
			return 0, err
		}
		secrets += found
		c.add("secret."+m.Type+".count", found, ns, label("mount_point", m.Path))
	}
	return entities, nil
}

// countDue counts leases, those of tokens among them, by the time at which they
// end.
func (a *Active) countDue(ctx context.Context, c *counting, now time.Time) error {
	u := a.core.cfg.Usage
	if u.Epsilon <= 0 {
		u.Epsilon = time.Hour
	}
	if u.Buckets <= 0 {
		u.Buckets = 168
	}
	type bucket struct {
		ends int64
		ns   string
	}
	total, soon := 0, map[bucket]int{}
	last := now.Add(time.Duration(u.Buckets) * u.Epsilon)
	err := a.DB.View(ctx, func(tx storage.Tx) error {
		for it, err := range lease.Items(tx) {
			if err != nil {
				return err
			}
			if it.Kind != token.QueueKind && it.Kind != lease.QueueKind {
				continue
			}
			if total++; total == maxCounted {
				return nil
			}
			if it.Due.After(last) {
				continue
			}
			b := bucket{ends: it.Due.Truncate(u.Epsilon).Add(u.Epsilon).Unix()}
			if u.Namespaces {
				b.ns = it.NS
			}
			soon[b]++
		}
		return nil
	})
	c.add("expire.num_leases", total)
	for b, n := range soon {
		labels := []telemetry.Label{label("expiring", time.Unix(b.ends, 0).UTC().Format(time.RFC3339))}
		if u.Namespaces {
			labels = append(labels, label("namespace", b.ns))
		}
		if len(c.list) < u.most() {
			c.add("expire.leases.by_expiration", n, labels...)
		}
	}
	return err
}
