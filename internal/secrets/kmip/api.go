package kmip

import (
	"errors"
	"sync"

	"arca/internal/engine"
)

// Messages by HTTP and a token count like those of clients with certificates: against the same
// limits of their role, a token being one client, and in the same metrics.

const maxDecided = 1024 // requests whose refusal or not is remembered

// decided is what was decided of requests: a transaction may run again, and counts once.
type decided struct {
	mu   sync.Mutex
	made map[string]bool // guarded by mu: by the request's id
	ids  []string        // guarded by mu: the same, the oldest at next
	next int             // guarded by mu
}

func (d *decided) once(id string, decide func() bool) bool {
	if id == "" {
		return decide()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if was, ok := d.made[id]; ok {
		return was
	}
	if d.made == nil {
		d.made, d.ids = map[string]bool{}, make([]string, maxDecided)
	}
	delete(d.made, d.ids[d.next])
	d.made[id], d.ids[d.next] = decide(), id
	d.next = (d.next + 1) % maxDecided
	return d.made[id]
}

// throttleOf is where a mount's operations are counted at this node. A mount that does not
// listen has none of its own.
func (s *servers) throttleOf(mount string) *throttle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.byMount[mount]; v != nil {
		return &v.limits
	}
	return &s.limits
}

// apiTakes reports whether n operations may be done now on behalf of a role by who has the
// token, and counts them if so.
func (s *servers) apiTakes(call *engine.Call, in roleIn, r *role, n int) (bool, error) {
	var limits rates
	switch c, err := get[config](call.Tx, configKey); {
	case err == nil:
		limits = c.Rates
	case !errors.Is(err, errNotFound):
		return false, err
	}
	limits = r.Rates.over(limits)
	if limits == (rates{}) {
		return true, nil
	}
	who := "token"
	if c := call.Caller; c != nil {
		for _, name := range []string{c.Key, c.EntityID, c.DisplayName} {
			if name != "" {
				who += "/" + name
				break
			}
		}
	}
	t, key := s.throttleOf(call.Mount.ID), in.Scope+"/"+r.ID
	if t == &s.limits {
		key = call.Mount.ID + "/" + key
	}
	return s.decided.once(call.Request.ID, func() bool { return t.take(limits, key, who, n, call.Now) }), nil
}

// apiAnswered counts a message that was answered.
func (s *servers) apiAnswered(call *engine.Call, in roleIn, m *message, answer []byte, taken bool) {
	at := &place{Place: engine.Place{Mount: call.Mount, NamespacePath: call.NamespacePath}}
	conn := &connection{names: [2]string{in.Scope, in.Role}}
	call.After(func() {
		if !taken {
			s.meters.limited(at, conn)
		}
		every, _ := outcomesIn(answer)
		s.meters.request(at, conn, m, every, call.Now)
	})
}
