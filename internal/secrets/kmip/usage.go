package kmip

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// When an object was used last, and by whom. A use is that its material was given out or worked
// with by an operation that succeeded. To read must not become to write: a node notes uses in
// memory and tells the store once a minute, of an object at most once in usePeriod, and all that
// is left when it stops. docs/kmip.md says what that means for who reads it.
const (
	usedDir    = "u/"
	usedPath   = "used"
	usePeriod  = time.Hour
	maxUses    = 20_000 // objects of a mount that a node remembers
	usesAtOnce = 250    // in one transaction
)

func usedKey(scope, hash string) string { return usedDir + scope + "/" + hash }

// A usage is the last use of an object, as it is kept.
type usage struct {
	Version   int    `json:"v"`
	Time      int64  `json:"t"` // seconds
	Operation uint32 `json:"op"`
	Role      string `json:"role"`             // its name
	Serial    string `json:"serial,omitempty"` // of the client's certificate, decimal; "" for a message by HTTP and a token
}

// A noted is the last use of an object at this node. The zero value of told is that the store
// does not know of any, as far as is remembered.
type noted struct {
	at, told  int64 // seconds
	operation uint32
	role      string
	serial    *big.Int
}

func (n *noted) usage() *usage {
	u := &usage{Version: 1, Time: n.at, Operation: n.operation, Role: n.role}
	if n.serial != nil {
		u.Serial = n.serial.String()
	}
	return u
}

// uses are those of a mount at a node, by "<scope id>/<hash>" of the object.
type uses struct {
	mu  sync.Mutex
	all map[string]noted // guarded by mu
}

// A used is an object whose material an operation had.
type used struct {
	object    string // as in uses
	operation uint32
}

// note takes what a message has used. What comes when there is no room is not noted: room is
// made with the next telling.
func (u *uses) note(list []used, role string, serial *big.Int, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = map[string]noted{}
	}
	for _, x := range list {
		n, known := u.all[x.object]
		if !known && len(u.all) >= maxUses {
			continue
		}
		u.all[x.object] = noted{now.Unix(), n.told, x.operation, role, serial}
	}
}

// due are the uses that the store is to hear of, all of which it does not know when the node
// stops; what is not needed any more is forgotten.
func (u *uses) due(now time.Time, stops bool) map[string]*usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]*usage{}
	crowded := len(u.all) > maxUses/2
	for key, n := range u.all {
		switch told := n.told >= n.at; {
		case !told && (stops || n.told == 0 || n.at-n.told >= int64(usePeriod/time.Second)):
			out[key] = n.usage()
		case n.told != 0 && crowded, told && now.Unix()-n.told >= int64(usePeriod/time.Second):
			delete(u.all, key) // it comes back as one that is not told, and what the store has is an hour old at most
		}
	}
	return out
}

// told notes that the store knows of uses.
func (u *uses) told(list map[string]*usage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, x := range list {
		if n, ok := u.all[key]; ok {
			n.told = max(n.told, x.Time)
			u.all[key] = n
		}
	}
}

// of is the last use of an object that the node remembers, nil for none.
func (u *uses) of(object string) *usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, ok := u.all[object]
	if !ok {
		return nil
	}
	return n.usage()
}

// uses notes that the current operation has an object's material.
func (b *batch) uses(materialKey string) {
	b.used = append(b.used, used{strings.TrimPrefix(materialKey, "m/"), b.operation})
}

// noteUses has the node remember what a message has used, once it is answered.
func (b *batch) noteUses() {
	if len(b.used) > 0 {
		b.call.After(b.rememberUses)
	}
}

func (b *batch) rememberUses() {
	v := b.e.servers.ofMount(b.call.Mount.ID)
	if v == nil {
		return
	}
	var serial *big.Int
	if state := b.call.Request.TLS; b.call.Caller == nil && state != nil && len(state.PeerCertificates) > 0 {
		serial = state.PeerCertificates[0].SerialNumber
	}
	v.uses.note(b.used, b.roleName, serial, b.now)
}

// A telling is what a node says of uses.
type telling struct {
	Stops bool              `json:"stops,omitempty"` // the node stops: it will not say it again
	Uses  map[string]*usage `json:"uses"`
}

// tellUses has the store take the last uses that a node has noted.
func (v *server) tellUses(ctx context.Context, host engine.Host, stops bool) {
	at := v.at.Load()
	if at == nil {
		return
	}
	due := v.uses.due(time.Now(), stops)
	for _, keys := range slices.Collect(slices.Chunk(slices.Sorted(maps.Keys(due)), usesAtOnce)) {
		some := telling{Stops: stops, Uses: map[string]*usage{}}
		for _, key := range keys {
			some.Uses[key] = due[key]
		}
		raw, err := json.Marshal(some)
		if err == nil {
			_, err = host.Handle(ctx, &engine.Request{ID: newUUID(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.Mount.Path + usedPath, Raw: raw})
		}
		if err != nil {
			if ctx.Err() == nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.NotActive) {
				host.Log().Warn("note which objects were used; it is tried again", "error", err)
			}
			return
		}
		v.uses.told(some.Uses)
	}
}

// keepUsed stores the last uses that a node has noted, of objects that are there.
func (e *Engine) keepUsed(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	said, err := parseTelling(call.Request.Raw)
	if err != nil {
		return nil, err
	}
	for _, object := range slices.Sorted(maps.Keys(said.Uses)) {
		one := said.Uses[object]
		scope, hash, _ := strings.Cut(object, "/")
		if _, err := call.Tx.Get(objectKey(scope, hash)); errors.Is(err, storage.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		have, err := get[usage](call.Tx, usedKey(scope, hash))
		if err != nil && !errors.Is(err, errNotFound) {
			return nil, err
		}
		if err == nil && (one.Time <= have.Time || !said.Stops && one.Time-have.Time < int64(usePeriod/time.Second)) {
			continue // another node has said it
		}
		if err := storage.PutJSON(call.Tx, usedKey(scope, hash), one); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// parseTelling reads what a node says of uses.
func parseTelling(raw []byte) (*telling, error) {
	bad := errs.New(errs.Invalid, "what was used cannot be read")
	said := &telling{}
	if json.Unmarshal(raw, said) != nil || len(said.Uses) > usesAtOnce {
		return nil, bad
	}
	for object, one := range said.Uses {
		scope, hash, ok := strings.Cut(object, "/")
		if !ok || !isID(scope) || strings.Contains(hash, "/") || len(hash) > 64 || one == nil {
			return nil, bad
		}
	}
	return said, nil
}

// lastUse is when an object was used last, as operators see it; nil for one of which no use is
// known. What this node has noted and not told yet counts.
func (b *batch) lastUse(o *object) (map[string]any, error) {
	hash := o.hash()
	have, err := get[usage](b.tx, usedKey(b.scope, hash))
	if err != nil && !errors.Is(err, errNotFound) {
		return nil, err
	}
	if v := b.e.servers.ofMount(b.call.Mount.ID); v != nil {
		if more := v.uses.of(b.scope + "/" + hash); more != nil && (have == nil || more.Time >= have.Time) {
			have = more
		}
	}
	if have == nil {
		return nil, nil
	}
	out := map[string]any{
		"time": time.Unix(have.Time, 0).UTC().Format(time.RFC3339), "operation": ttlv.EnumName(ttlv.TagOperation, have.Operation), "role": have.Role,
	}
	if have.Serial != "" {
		out["serial_number"] = have.Serial
	}
	return out, nil
}
