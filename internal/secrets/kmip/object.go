package kmip

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// An object is what is known of a managed object. Its material lies elsewhere. The names in
// JSON are those of records of version 1; see stored.go.
type object struct {
	ID     string      `json:"id"`
	Type   uint32      `json:"t"`
	Order  string      `json:"o"`
	Attrs  []attribute `json:"a"`
	Erase  int64       `json:"er,omitempty"` // when a destroyed object's material is erased, in seconds
	Forget int64       `json:"fo,omitempty"` // ... and all else
	Next   int32       `json:"x,omitempty"`  // the highest index that was ever given, so that none comes again

	digest string // of the identifier, of an object that was just made: see hash
}

// hashed names parts, each with its length before it.
func hashed(parts ...string) string {
	h := hashedAs(parts...)
	return string(h[:])
}

func hashedAs(parts ...string) (out [32]byte) {
	var room [128]byte
	b := room[:0]
	for _, p := range parts {
		b = append(append(strconv.AppendInt(b, int64(len(p)), 10), ':'), p...)
	}
	sum := sha256.Sum256(b)
	hex.Encode(out[:], sum[:16])
	return out
}

const nameDir = "n/"

func objectKey(scope, hash string) string   { return "o/" + scope + "/" + hash }
func materialKey(scope, hash string) string { return "m/" + scope + "/" + hash }
func orderDir(scope string) string          { return "t/" + scope + "/" }
func valueDir(scope, value string) string   { return "i/" + scope + "/" + value + "/" }
func nameKey(scope, value string) string    { return nameDir + scope + "/" + value }

// hash is by what the object is kept.
func (o *object) hash() string {
	if o.digest != "" {
		return o.digest
	}
	return hashed(o.ID)
}

func (o *object) clone() *object {
	c := *o
	c.Attrs = slices.Clone(o.Attrs)
	return &c
}

// get returns the value of the first instance of an attribute, nil for none.
func (o *object) get(name string) *ttlv.Node {
	for i := range o.Attrs {
		if a := &o.Attrs[i]; a.Name == name && a.Index < templateIndex {
			return a.node()
		}
	}
	return nil
}

func (o *object) time(name string) (time.Time, bool) {
	n := o.get(name)
	if n == nil {
		return time.Time{}, false
	}
	return time.Unix(n.Int, 0).UTC(), true
}

func (o *object) has(name string) bool { return o.get(name) != nil }

func (o *object) truth(name string) bool { n := o.get(name); return n != nil && n.Int == 1 }

// set puts a value in place of all instances.
func (o *object) set(name string, value *ttlv.Node) {
	o.drop(name)
	o.Attrs = append(o.Attrs, newAttribute(name, value))
}

func (o *object) drop(name string) {
	o.Attrs = slices.DeleteFunc(o.Attrs, func(a attribute) bool { return a.Name == name && a.Index < templateIndex })
}

// addLink adds a link to another object.
func (o *object) addLink(typ uint32, id string) {
	n := ttlv.Struct(ttlv.TagAttributeValue, ttlv.Enum(ttlv.TagLinkType, typ), ttlv.Text(ttlv.TagLinkedObjectIdentifier, id))
	a := newAttribute(attrLink, n)
	a.Index = o.nextIndex(attrLink)
	o.Attrs = append(o.Attrs, a)
}

// linked is the identifier that the first link of a type has; "" for none.
func (o *object) linked(typ uint32) string {
	for _, a := range o.instances(attrLink) {
		if n := a.node(); uint32(n.Get(ttlv.TagLinkType).Int) == typ {
			return n.Get(ttlv.TagLinkedObjectIdentifier).Text()
		}
	}
	return ""
}

// relink has the link of a type to an object point to another one, or adds it. from
// "" is any object.
func (o *object) relink(typ uint32, from, to string) {
	for i, a := range o.Attrs {
		if a.Name != attrLink || a.Index >= templateIndex {
			continue
		}
		n := a.node()
		if uint32(n.Get(ttlv.TagLinkType).Int) != typ || from != "" && n.Get(ttlv.TagLinkedObjectIdentifier).Text() != from {
			continue
		}
		c := newAttribute(attrLink, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Enum(ttlv.TagLinkType, typ), ttlv.Text(ttlv.TagLinkedObjectIdentifier, to)))
		c.Index = a.Index
		o.Attrs[i] = c
		return
	}
	o.addLink(typ, to)
}

// nextIndex is the index of a further instance. None comes twice in an object's life.
func (o *object) nextIndex(name string) int32 {
	next, any := int32(0), false
	for _, a := range o.Attrs {
		if a.Name == name && a.Index < templateIndex {
			next, any = max(next, a.Index+1), true
		}
	}
	if any {
		next = max(next, o.Next)
	}
	return next
}

// storageSoftware is the bit of Protection Storage Mask that says how objects are
// kept here.
const storageSoftware = 1

// stateless reports whether objects of the type have no state.
func (o *object) stateless() bool {
	return o.Type == ttlv.ObjectTypeOpaqueObject || o.Type == ttlv.ObjectTypeTemplate
}

// state is that at a moment: dates that are due count by themselves.
func (o *object) state(now time.Time) uint32 {
	_, destroyed := o.time(attrDestroyed)
	_, compromised := o.time(attrCompromised)
	off, deactivates := o.time(attrDeactivation)
	on, activates := o.time(attrActivation)
	switch {
	case destroyed && compromised:
		return ttlv.StateDestroyedCompromised
	case destroyed:
		return ttlv.StateDestroyed
	case compromised:
		return ttlv.StateCompromised
	case deactivates && !off.After(now):
		return ttlv.StateDeactivated
	case activates && !on.After(now):
		return ttlv.StateActive
	}
	return ttlv.StatePreActive
}

func (o *object) destroyed() bool { return o.has(attrDestroyed) }

// visible are the attributes that clients of a version see, in order.
func (o *object) visible(v version, now time.Time) (out []attribute) {
	for _, k := range kinds {
		if !k.known(v) {
			continue
		}
		switch k.name {
		case attrID:
			out = append(out, newAttribute(attrID, ttlv.Text(0, o.ID)))
		case attrShortID:
			sum := sha256.Sum256([]byte(o.ID))
			out = append(out, newAttribute(attrShortID, ttlv.Bytes(0, sum[:8])))
		case attrStorage:
			out = append(out, newAttribute(attrStorage, ttlv.Int(0, storageSoftware)))
		case attrType:
			out = append(out, newAttribute(attrType, ttlv.Enum(0, o.Type)))
		case attrState:
			if !o.stateless() {
				out = append(out, newAttribute(attrState, ttlv.Enum(0, o.state(now))))
			}
		default:
			out = append(out, o.instances(k.name)...)
		}
	}
	for _, a := range o.Attrs {
		vendor := v.major >= 2 && strings.HasPrefix(a.Name, vendorPrefix)
		if (strings.HasPrefix(a.Name, "x-") || strings.HasPrefix(a.Name, "y-") || vendor) && a.Index < templateIndex {
			out = append(out, a)
		}
	}
	return out
}

func (o *object) instances(name string) (out []attribute) {
	for _, a := range o.Attrs {
		if a.Name == name && a.Index < templateIndex {
			out = append(out, a)
		}
	}
	return out
}

// indexed are the values by which the object is found without a walk.
// It tells of each whether it is a name, which one object has at a time.
func (o *object) indexed() map[string]bool {
	out := map[string]bool{}
	if o.destroyed() {
		return out
	}
	for _, a := range o.Attrs {
		if a.Index < templateIndex {
			if v := indexOf(a.Name, a.node()); v != "" {
				out[v] = a.Name == attrName
			}
		}
	}
	return out
}

// indexOf is the name of a value in the index, "" for one that is not there.
func indexOf(name string, value *ttlv.Node) string {
	switch {
	case name == attrName:
		if v := value.Get(ttlv.TagNameValue); v != nil {
			return hashed(name, v.Text())
		}
	case name == attrGroup, (strings.HasPrefix(name, "x-") || strings.HasPrefix(name, vendorPrefix)) && value.Type == ttlv.TextString:
		return hashed(name, value.Text())
	case name == attrAppInfo:
		space, data := value.Get(ttlv.TagApplicationNamespace), value.Get(ttlv.TagApplicationData)
		if space != nil && data != nil {
			return hashed(name, space.Text(), data.Text())
		}
	}
	return ""
}

// save writes what changed of an object; old is nil for a new one. Only the store can
// fail.
func (b *batch) save(old, o *object) error {
	o.set(attrChanged, date(b.now))
	for _, a := range o.Attrs {
		if a.Index < templateIndex {
			o.Next = max(o.Next, a.Index+1)
		}
	}
	hash := o.hash()
	var have map[string]bool
	want := o.indexed()
	if old != nil {
		have = old.indexed()
	} else if err := b.tx.Put(orderDir(b.scope)+o.Order, []byte(hash)); err != nil {
		return err
	}
	for v, name := range have {
		if _, stays := want[v]; !stays {
			if err := b.unindex(v, name, o); err != nil {
				return err
			}
		}
	}
	for v, name := range want {
		if _, was := have[v]; !was {
			if err := b.index(v, name, o.Order, hash); err != nil {
				return err
			}
		}
	}
	if old != nil && old.open() != o.open() {
		if err := b.reopen(o); err != nil {
			return err
		}
	}
	if err := b.schedule(old, o); err != nil {
		return err
	}
	return b.tx.Put(objectKey(b.scope, hash), o.encode())
}

// index notes that an object has a value, by which it is found.
func (b *batch) index(value string, name bool, order, hash string) error {
	if name {
		return b.nameIt(value, order, hash)
	}
	return b.tx.Put(valueDir(b.scope, value)+order, []byte(hash))
}

// unindex undoes index.
func (b *batch) unindex(value string, name bool, o *object) error {
	if name {
		return b.unname(value, o)
	}
	return b.tx.Delete(valueDir(b.scope, value) + o.Order)
}

// load reads an object by the hash of its id.
func (b *batch) load(hash string) (*object, error) {
	return b.e.objects.Get(b.tx, objectKey(b.scope, hash))
}

// byID finds the object that a payload names, or that of the placeholder. It is
// shared: change a clone.
func (b *batch) byID(payload *ttlv.Node) (*object, error) {
	id, err := b.textID(payload.Get(ttlv.TagUniqueIdentifier))
	if err != nil {
		return nil, err
	}
	return b.object(id)
}

func (b *batch) object(id string) (*object, error) {
	if id == "" {
		return nil, newer(fail(ttlv.ResultReasonItemNotFound, "no object is named, and none was made or found before"), ttlv.ResultReasonObjectNotFound)
	}
	o, err := b.load(hashed(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, newer(fail(ttlv.ResultReasonItemNotFound, "there is no such object"), ttlv.ResultReasonObjectNotFound)
	}
	return o, err
}

// usable is byID for what works on objects that are neither archived nor destroyed.
func (b *batch) usable(payload *ttlv.Node) (*object, error) {
	o, err := b.byID(payload)
	if err != nil {
		return nil, err
	}
	return o, b.online(o)
}

func (b *batch) online(o *object) error {
	switch {
	case o.destroyed():
		return newer(fail(ttlv.ResultReasonItemNotFound, "the object is destroyed"), ttlv.ResultReasonObjectDestroyed)
	case o.has(attrArchived):
		return fail(ttlv.ResultReasonObjectArchived, "the object is archived")
	}
	return nil
}

// make stores a new object with its material. attrs are a client's.
func (b *batch) make(typ uint32, attrs []attribute, material *ttlv.Node, more func(o *object) error) (*object, error) {
	o, err := b.prepare(typ, attrs, more, nil)
	if err != nil {
		return nil, err
	}
	return o, b.commit(o, material)
}

// prepare makes a new object and checks all that can be wrong with it, but writes
// nothing: an item of a batch that fails must leave nothing behind. from is the
// object whose names it takes over, nil for none.
func (b *batch) prepare(typ uint32, attrs []attribute, more func(o *object) error, from *object) (*object, error) {
	o := &object{ID: b.importing, Type: typ, Attrs: attrs}
	if b.importing == "" {
		o.ID = newUUID()
	} else if b.replacing != nil {
		from = b.replacing
	}
	o.digest = hashed(o.ID)
	b.made++
	o.Order = fmt.Sprintf("%016x%04x%s", b.now.UnixNano(), b.made, o.hash()[:8]) // as made, also within one batch
	if b.importing == "" || !o.has(attrInitial) {
		o.set(attrInitial, date(b.now))
	}
	if more != nil {
		if err := more(o); err != nil {
			return nil, err
		}
	}
	if err := b.complete(o); err != nil {
		return nil, err
	}
	if err := b.constrained(o, nil); err != nil {
		return nil, err
	}
	for _, a := range o.instances(attrName) {
		other, err := b.named(a.node().Get(ttlv.TagNameValue).Text())
		if err != nil {
			return nil, err
		}
		if other != nil && (from == nil || other.ID != from.ID) {
			return nil, invalid("another object has this name")
		}
	}
	return o, tooMany(o)
}

// commit writes an object that prepare has made. Only the store can fail.
func (b *batch) commit(o *object, material *ttlv.Node) error {
	if b.replacing != nil {
		if err := b.remove(b.replacing); err != nil {
			return err
		}
	}
	if err := b.save(nil, o); err != nil {
		return err
	}
	b.holder = o.ID
	if material == nil {
		return nil
	}
	return b.tx.Put(materialKey(b.scope, o.hash()), o.encodeMaterial(material))
}

// remove takes an object away, with its place in the indexes.
func (b *batch) remove(o *object) error {
	keys := []string{orderDir(b.scope) + o.Order, materialKey(b.scope, o.hash()), objectKey(b.scope, o.hash()), usedKey(b.scope, o.hash())}
	for v, name := range o.indexed() {
		if err := b.unindex(v, name, o); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if err := b.tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// formatted notes in which format an object is kept, which KMIP 2 shows.
func (*batch) formatted(o *object, format uint32) {
	o.set(attrFormat, ttlv.Enum(ttlv.TagAttributeValue, format))
}

// tooMany bounds what a client makes of an object. The server's own links come
// beside that.
func tooMany(o *object) error {
	if len(o.Attrs) > maxAttributes {
		return invalid("an object has at most %d attributes", maxAttributes)
	}
	size := 0
	for i := range o.Attrs {
		if size += len(o.Attrs[i].Name) + o.Attrs[i].size(); size > maxObjectBytes {
			return invalid("the attributes of an object take at most %d bytes", maxObjectBytes)
		}
	}
	return nil
}

// complete sets what the server knows and checks the order of dates.
func (b *batch) complete(o *object) error {
	if !o.has(attrFresh) {
		o.set(attrFresh, ttlv.Bool(ttlv.TagAttributeValue, true))
	}
	if o.Type != ttlv.ObjectTypeTemplate {
		if !o.has(attrSensitive) {
			o.set(attrSensitive, ttlv.Bool(ttlv.TagAttributeValue, false))
		}
		if !o.has(attrExtractable) {
			o.set(attrExtractable, ttlv.Bool(ttlv.TagAttributeValue, true))
		}
		o.set(attrAlways, ttlv.Bool(ttlv.TagAttributeValue, o.truth(attrSensitive)))
		o.set(attrNever, ttlv.Bool(ttlv.TagAttributeValue, !o.truth(attrExtractable)))
		if !o.has(attrLease) {
			o.set(attrLease, ttlv.Seconds(ttlv.TagAttributeValue, leaseSeconds))
		}
	}
	if n := o.get(attrLimits); n != nil { // the count begins at the total
		total := n.Get(ttlv.TagUsageLimitsTotal).Int
		o.set(attrLimits, limits(total, total, uint32(n.Get(ttlv.TagUsageLimitsUnit).Int)))
	}
	return checkDates(o)
}

const leaseSeconds = 3600

func limits(total, count int64, unit uint32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagAttributeValue, ttlv.Long(ttlv.TagUsageLimitsTotal, total), ttlv.Long(ttlv.TagUsageLimitsCount, count),
		ttlv.Enum(ttlv.TagUsageLimitsUnit, unit))
}

// checkDates holds dates to their order: Process Start and Protect Stop lie between
// Activation and Deactivation. (Which of the two comes first is the client's
// business: the official cases have both.)
func checkDates(o *object) error {
	for _, pair := range [][2]string{
		{attrActivation, attrProcessStart},
		{attrActivation, attrProtectStop},
		{attrActivation, attrDeactivation},
		{attrProcessStart, attrDeactivation},
		{attrProtectStop, attrDeactivation},
	} {
		first, a := o.time(pair[0])
		second, b := o.time(pair[1])
		if a && b && second.Before(first) {
			return invalid("%s is before %s", pair[1], pair[0])
		}
	}
	return nil
}

// material reads the structure that an object is.
func (b *batch) material(o *object) (*ttlv.Node, error) {
	key := materialKey(b.scope, o.hash())
	raw, err := b.tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fail(ttlv.ResultReasonKeyValueNotPresent, "the server does not have the material of this object")
	}
	if err != nil {
		return nil, err
	}
	_, n, err := decodeMaterial(raw)
	if err != nil {
		return nil, err
	}
	b.uses(key)
	return n, nil
}
