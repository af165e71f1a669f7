package kmip

import (
	"encoding/binary"
	"encoding/json"

	"arca/internal/errs"
	"arca/internal/ttlv"
)

// How an object is kept: what is read with every operation must not cost more than the
// operation. Records of version 1 are JSON; those of version 2 begin with a byte 2, and have
// then, as varints and byte strings with their length before them,
//
//	type, identifier, order, erase, forget, next, number of attributes,
//	and of each: tag, or 0 and the name; index; value in TTLV
//
// Version 1 is read, and written no more.
const objectVersion = 2

// tagFor is the tag by which an attribute is kept, 0 for one that is kept by its name.
func tagFor(name string) ttlv.Tag {
	if k, ok := kindsByName[name]; ok && kindsByTag[k.tag].name == name {
		return k.tag
	}
	return 0
}

func (o *object) encode() []byte {
	size := 64 + len(o.ID) + len(o.Order)
	for i := range o.Attrs {
		size += 12 + len(o.Attrs[i].Name) + o.Attrs[i].size()
	}
	out := append(make([]byte, 0, size), objectVersion)
	text := func(s string) { out = append(binary.AppendUvarint(out, uint64(len(s))), s...) }
	out = binary.AppendUvarint(out, uint64(o.Type))
	text(o.ID)
	text(o.Order)
	out = binary.AppendVarint(out, o.Erase)
	out = binary.AppendVarint(out, o.Forget)
	out = binary.AppendVarint(out, int64(o.Next))
	out = binary.AppendUvarint(out, uint64(len(o.Attrs)))
	for i := range o.Attrs {
		a := &o.Attrs[i]
		tag := tagFor(a.Name)
		out = binary.AppendUvarint(out, uint64(tag))
		if tag == 0 {
			text(a.Name)
		}
		out = binary.AppendVarint(out, int64(a.Index))
		out = a.appendValue(binary.AppendUvarint(out, uint64(a.size())))
	}
	return out
}

// A reader takes a record apart. After the first thing that is not as it should be, bad is
// true, and all that is read is nothing.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

// parseObject reads a record. The values of attributes are parts of raw.
func parseObject(key string, raw []byte) (*object, error) {
	bad := func() error { return errs.New(errs.Internal, "the record %q cannot be decoded", key) }
	if len(raw) > 0 && raw[0] == '{' {
		o := &object{}
		if json.Unmarshal(raw, o) != nil {
			return nil, bad()
		}
		return o, nil
	}
	if len(raw) == 0 || raw[0] != objectVersion {
		return nil, bad()
	}
	r := reader{rest: raw[1:]}
	o := &object{Type: uint32(r.number())}
	o.ID, o.Order = string(r.bytes()), string(r.bytes())
	o.Erase, o.Forget, o.Next = r.signed(), r.signed(), int32(r.signed())
	n := r.number()
	if n > uint64(len(r.rest)) { // each takes some bytes
		return nil, bad()
	}
	o.Attrs = make([]attribute, n)
	for i := range o.Attrs {
		a := &o.Attrs[i]
		if tag := ttlv.Tag(r.number()); tag != 0 {
			k, ok := kindsByTag[tag]
			if !ok {
				return nil, bad()
			}
			a.Name = k.name
		} else {
			a.Name = string(r.bytes())
		}
		a.Index = int32(r.signed())
		a.Value = r.bytes()
	}
	if r.bad || len(r.rest) > 0 {
		return nil, bad()
	}
	return o, nil
}

// decodeObject decodes an object with all its attributes, and tells about how much
// memory it takes.
func decodeObject(key string, raw []byte) (*object, int, error) {
	o, err := parseObject(key, raw)
	if err != nil {
		return nil, 0, err
	}
	size := 128 + len(raw) + attributeBytes*len(o.Attrs)
	for i := range o.Attrs {
		a := &o.Attrs[i]
		if a.decoded = a.node(); a.decoded == nil {
			return nil, 0, errs.New(errs.Internal, "the record %q has an attribute that cannot be decoded", key)
		}
		size += nodeBytes * (1 + len(a.decoded.Children))
		if k, ok := kindsByName[a.Name]; ok {
			a.Name = k.name // one for all objects
		}
	}
	return o, size, nil
}

// What they take in memory, a node with its place in another (TestObjectMemory).
const (
	attributeBytes = 56
	nodeBytes      = 72
)
