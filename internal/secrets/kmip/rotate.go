package kmip

import (
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Keys that are replaced by themselves (KMIP 2.1, sections 4.52 to 4.58): one with Rotate
// Automatic and a Rotate Interval is re-keyed when it is so old, as its client would do it,
// with Rotate Offset as the offset. Names go on to the new key.

// rotateAt is when a key is due to be replaced; ok is false for one that is not.
func (o *object) rotateAt() (at time.Time, ok bool) {
	every := o.get(attrRotateInterval)
	on, activates := o.time(attrActivation)
	if o.Type != ttlv.ObjectTypeSymmetricKey || !o.truth(attrRotateAuto) || every == nil || every.Int <= 0 || !activates || o.destroyed() || o.has(attrArchived) {
		return at, false
	}
	last, ok := o.time(attrRotateDate)
	if !ok {
		last, ok = o.time(attrInitial)
	}
	if at = last.Add(time.Duration(every.Int) * time.Second); at.Before(on) { // not before it is active
		at = on
	}
	return at, ok
}

// schedule has a key looked at when it is due.
func (b *batch) schedule(old, o *object) error {
	at, due := o.rotateAt()
	if !due {
		return nil
	}
	if old != nil {
		if before, had := old.rotateAt(); had && before.Equal(at) {
			return nil
		}
	}
	return b.tx.Put(dueKey(at, "r", b.scope, o.hash()), nil)
}

// turned notes on both keys that one has replaced the other.
func turned(old, fresh *object, now time.Time) {
	generation := int64(0)
	if n := old.get(attrRotateGeneration); n != nil {
		generation = n.Int
	}
	fresh.set(attrRotateGeneration, ttlv.Int(0, int32(min(generation+1, 1<<31-1))))
	fresh.set(attrRotateDate, date(now))
	fresh.set(attrRotateLatest, ttlv.Bool(0, true))
	old.set(attrRotateLatest, ttlv.Bool(0, false))
	old.drop(attrRotateAuto) // its successor goes on
}

// rotate replaces a key that is due. One that has ended, or is compromised, is left as
// it is.
func (e *Engine) rotate(b *batch, hash string) error {
	o, err := b.load(hash)
	if storage.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	at, due := o.rotateAt()
	if !due || b.now.Before(at) || o.state(b.now) != ttlv.StateActive {
		return nil
	}
	s, err := b.settings()
	if err != nil {
		return err
	}
	later := func() error { return b.tx.Put(dueKey(b.now.Add(time.Hour), "r", b.scope, hash), nil) }
	if s.Frozen {
		return later()
	}
	p := ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, o.ID))
	if n := o.get(attrRotateOffset); n != nil {
		p.Add(n.Retag(ttlv.TagOffset))
	}
	b.free = true
	defer func() { b.free = false }()
	if _, err = b.rekey(p); isFault(err) { // nothing was written; what is in the way may go
		return later()
	}
	return err
}
