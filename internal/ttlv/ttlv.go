// Package ttlv reads and writes the encoding of KMIP messages: a tag, a type, a
// length and a value (KMIP 2.1, section 9.1; 1.4, section 9.1).
//
// A message becomes a tree of nodes. Reading trusts nothing: what is announced is
// checked against what is there before anything is allocated, depth and number of
// nodes are bounded, and no input makes it panic or recurse.
package ttlv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
	"unicode/utf8"
)

// A Tag says what a value is.
type Tag uint32

// String is the name that the specifications have for the tag, or its number.
func (t Tag) String() string {
	if n := t.name(); n != "" {
		return n
	}
	return fmt.Sprintf("0x%06x", uint32(t))
}

// A Type says how a value is encoded.
type Type uint8

// The types.
const (
	Structure Type = iota + 1
	Integer
	LongInteger
	BigInteger
	Enumeration
	Boolean
	TextString
	ByteString
	DateTime
	Interval
	DateTimeExtended
)

// Bounds of what is read.
const (
	MaxDepth = 32
	MaxNodes = 100_000
	// HeaderBytes is how long tag, type and length are.
	HeaderBytes = 8
)

// A Node is a value with its tag. Int holds integers, enumerations, booleans (0, 1),
// seconds and microseconds; Bytes texts, byte strings and big integers.
type Node struct {
	Tag      Tag
	Type     Type
	Int      int64
	Bytes    []byte
	Children []*Node
}

// ErrEncoding is a message that is not encoded as it must be. What is wrong is in
// the text, which quotes none of it.
var ErrEncoding = errors.New("the message is not well-formed")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrEncoding, fmt.Sprintf(format, args...))
}

// Length returns how long a message is, with its header, by its first HeaderBytes.
func Length(header []byte) (int, error) {
	if len(header) < HeaderBytes {
		return 0, bad("%d bytes are no header", len(header))
	}
	if Type(header[3]) != Structure {
		return 0, bad("a message is a structure")
	}
	n := binary.BigEndian.Uint32(header[4:])
	if n%8 != 0 {
		return 0, bad("the length of a structure is a multiple of 8")
	}
	return HeaderBytes + int(n), nil
}

type open struct {
	node *Node
	end  int // of its children
}

// Decode reads one node, which must be all of b. Its byte strings and texts are
// parts of b.
func Decode(b []byte) (*Node, error) { return decode(b, &room{}) }

// A Decoder decodes one message after the other in the same memory, as far as a short one needs
// it. The zero value is ready. It is of one goroutine, which says by Clear when it is done with a message.
type Decoder struct {
	nodes []Node
	links []*Node
}

// decoderNodes is how many nodes the memory of a Decoder has: as many as a short message.
const decoderNodes = 16

// Decode is as the function Decode. What it returns is good until Clear or the next call, unless Forget
// comes before that.
func (d *Decoder) Decode(b []byte) (*Node, error) {
	d.Clear()
	if d.nodes == nil {
		d.nodes, d.links = make([]Node, decoderNodes), make([]*Node, decoderNodes)
	}
	return decode(b, &room{d.nodes, d.links})
}

// Clear lets go of the last message, which may be far larger than the memory, and of the bytes of which it was.
func (d *Decoder) Clear() {
	clear(d.nodes)
	clear(d.links)
}

// Forget leaves the memory to the last message. Its byte strings and texts remain parts of what it was decoded from.
func (d *Decoder) Forget() { *d = Decoder{} }

func decode(b []byte, room *room) (*Node, error) {
	var root *Node
	var stack [MaxDepth]open
	depth, at, nodes := 0, 0, 0
	for {
		limit := len(b)
		if depth > 0 {
			limit = stack[depth-1].end //nolint:gosec // G602: depth is at most MaxDepth
		}
		if at == limit {
			if depth > 0 {
				depth--
				if depth > 0 {
					continue
				}
			}
			if root == nil || at != len(b) {
				return nil, bad("it ends too early")
			}
			return root, nil
		}
		if depth == 0 && root != nil {
			return nil, bad("more follows behind it")
		}
		if nodes++; nodes > MaxNodes {
			return nil, bad("it has more than %d values", MaxNodes)
		}
		n := room.node(len(b) - at)
		inside, next, err := n.decode(b, at, limit)
		if err != nil {
			return nil, err
		}
		if depth > 0 {
			parent := stack[depth-1].node //nolint:gosec // G602: as above
			parent.Children = append(parent.Children, n)
		} else {
			root = n
		}
		if n.Type != Structure {
			at = next
			continue
		}
		if depth == MaxDepth {
			return nil, bad("it is deeper than %d levels", MaxDepth)
		}
		n.Children = room.children(b[inside:next], len(b)-at)
		stack[depth] = open{n, next}
		depth++
		at = inside
	}
}

// room is where the nodes of a message lie, some at a time: to make each by itself is half of
// what it costs to decode a short one.
type room struct {
	nodes []Node
	links []*Node
}

// most is how many nodes there is room for at once: as many as the bytes that are left have as a
// rule, and not so many that what is kept of a message keeps much.
func most(left int) int { return min(left/(2*HeaderBytes)+1, 32) }

func (r *room) node(left int) *Node {
	if len(r.nodes) == 0 {
		r.nodes = make([]Node, most(left))
	}
	n := &r.nodes[0]
	r.nodes = r.nodes[1:]
	return n
}

// children has room for the children of a structure, which are counted by their headers. What is
// wrong with them is found when they are decoded.
func (r *room) children(b []byte, left int) []*Node {
	n := 0
	for len(b) >= HeaderBytes && n < MaxNodes {
		padded := (int(binary.BigEndian.Uint32(b[4:])) + 7) &^ 7
		if n++; padded > len(b)-HeaderBytes {
			break
		}
		b = b[HeaderBytes+padded:]
	}
	if n == 0 {
		return nil
	}
	if len(r.links) < n {
		r.links = make([]*Node, max(n, most(left)))
	}
	out := r.links[:0:n]
	r.links = r.links[n:]
	return out
}

// decode reads the header at a place, and the value unless it is a structure.
func (n *Node) decode(b []byte, at, limit int) (inside, next int, err error) {
	if limit-at < HeaderBytes {
		return 0, 0, bad("%d bytes are left for a header", limit-at)
	}
	h := b[at : at+HeaderBytes]
	n.Tag, n.Type = Tag(h[0])<<16|Tag(h[1])<<8|Tag(h[2]), Type(h[3])
	if h[0] != 0x42 && h[0] != 0x54 {
		return 0, 0, bad("unknown tag %s", n.Tag)
	}
	length := int(binary.BigEndian.Uint32(h[4:]))
	inside = at + HeaderBytes
	padded := (length + 7) &^ 7
	if padded > limit-inside || length > padded {
		return 0, 0, bad("%s is longer than what it lies in", n.Tag)
	}
	next = inside + padded
	return inside, next, n.value(b[inside:inside+length:inside+length], length) // who appends to it writes into nothing else
}

func (n *Node) value(v []byte, length int) error {
	fixed := 0
	switch n.Type {
	case Structure:
		if length%8 != 0 {
			return bad("the length of the structure %s is no multiple of 8", n.Tag)
		}
	case Integer, Enumeration, Interval:
		fixed = 4
	case LongInteger, Boolean, DateTime, DateTimeExtended:
		fixed = 8
	case BigInteger:
		if length == 0 || length%8 != 0 {
			return bad("the length of the big integer %s is no multiple of 8", n.Tag)
		}
		n.Bytes = v
	case TextString:
		if !utf8.Valid(v) {
			return bad("%s is no text in UTF-8", n.Tag)
		}
		for _, c := range v {
			if c == 0 {
				return bad("%s holds a zero character", n.Tag)
			}
		}
		n.Bytes = v
	case ByteString:
		n.Bytes = v
	default:
		return bad("%s has the unknown type %d", n.Tag, n.Type)
	}
	if fixed == 0 {
		return nil
	}
	if length != fixed {
		return bad("%s is %d bytes long, not %d", n.Tag, length, fixed)
	}
	if fixed == 8 {
		n.Int = int64(binary.BigEndian.Uint64(v))
	} else if u := binary.BigEndian.Uint32(v); n.Type == Integer {
		n.Int = int64(int32(u))
	} else {
		n.Int = int64(u)
	}
	if n.Type == Boolean && n.Int != 0 && n.Int != 1 {
		return bad("%s is neither true nor false", n.Tag)
	}
	return nil
}

// Append appends the encoding of n to dst.
func (n *Node) Append(dst []byte) []byte {
	if n.Type == encoded {
		return append(dst, n.Bytes...)
	}
	start := len(dst)
	dst = append(dst, byte(n.Tag>>16), byte(n.Tag>>8), byte(n.Tag), byte(n.Type), 0, 0, 0, 0)
	length := 0
	switch n.Type {
	case Structure:
		for _, c := range n.Children {
			dst = c.Append(dst)
		}
		length = len(dst) - start - HeaderBytes
	case Integer, Enumeration, Interval:
		dst = binary.BigEndian.AppendUint32(dst, uint32(n.Int))
		dst = append(dst, 0, 0, 0, 0)
		length = 4
	case LongInteger, Boolean, DateTime, DateTimeExtended:
		dst = binary.BigEndian.AppendUint64(dst, uint64(n.Int))
		length = 8
	case BigInteger, TextString, ByteString:
		dst = append(dst, n.Bytes...)
		length = len(n.Bytes)
		for i := length; i%8 != 0; i++ {
			dst = append(dst, 0)
		}
	}
	binary.BigEndian.PutUint32(dst[start+4:], uint32(length))
	return dst
}

// encoded is the type of a node that Encoded made. No message has it.
const encoded = 0

// Encoded makes a node of what is encoded already, for an answer: it is taken as it is, and is not
// known to have children. raw must be one structure, which whoever has encoded it answers for.
func Encoded(raw []byte) (*Node, error) {
	n, err := Length(raw)
	if err != nil {
		return nil, err
	}
	if n != len(raw) {
		return nil, bad("it is not one structure")
	}
	return &Node{Tag: Tag(raw[0])<<16 | Tag(raw[1])<<8 | Tag(raw[2]), Type: encoded, Bytes: raw}, nil
}

// Begin appends the header of a structure whose children follow; End says where they end. at is
// for End.
func Begin(dst []byte, tag Tag) (out []byte, at int) {
	return append(dst, byte(tag>>16), byte(tag>>8), byte(tag), byte(Structure), 0, 0, 0, 0), len(dst)
}

// End ends the structure that Begin has begun at a place of dst.
func End(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+4:], uint32(len(dst)-at-HeaderBytes))
	return dst
}

// Size is how many bytes the encoding of n has.
func (n *Node) Size() int {
	switch n.Type { //nolint:exhaustive // all others have one size
	case encoded:
		return len(n.Bytes)
	case Structure:
		size := HeaderBytes
		for _, c := range n.Children {
			size += c.Size()
		}
		return size
	case BigInteger, TextString, ByteString:
		return HeaderBytes + (len(n.Bytes)+7)&^7
	}
	return HeaderBytes + 8
}

// Encode returns the encoding of n.
func (n *Node) Encode() []byte { return n.Append(make([]byte, 0, n.Size())) }

// Get returns the first child with a tag, nil when there is none. A nil node has
// none.
func (n *Node) Get(tag Tag) *Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Tag == tag {
			return c
		}
	}
	return nil
}

// All returns the children with a tag.
func (n *Node) All(tag Tag) (out []*Node) {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Tag == tag {
			out = append(out, c)
		}
	}
	return out
}

// Inside returns the children, of nil none.
func (n *Node) Inside() []*Node {
	if n == nil {
		return nil
	}
	return n.Children
}

// Add appends children, but for nil ones, and returns n.
func (n *Node) Add(children ...*Node) *Node {
	n.Children = slices.Grow(n.Children, len(children))
	for _, c := range children {
		if c != nil {
			n.Children = append(n.Children, c)
		}
	}
	return n
}

// Text is the value of a text string, "" of nil.
func (n *Node) Text() string {
	if n == nil {
		return ""
	}
	return string(n.Bytes)
}

// Struct makes a structure.
func Struct(tag Tag, children ...*Node) *Node {
	s := &struct { // with its first children, as most have few
		Node
		room [4]*Node
	}{Node: Node{Tag: tag, Type: Structure}}
	s.Children = s.room[:0]
	return s.Add(children...)
}

// Int makes an integer of 32 bits.
func Int(tag Tag, v int32) *Node { return &Node{Tag: tag, Type: Integer, Int: int64(v)} }

// Long makes an integer of 64 bits.
func Long(tag Tag, v int64) *Node { return &Node{Tag: tag, Type: LongInteger, Int: v} }

// Enum makes an enumeration.
func Enum(tag Tag, v uint32) *Node { return &Node{Tag: tag, Type: Enumeration, Int: int64(v)} }

// Bool makes a boolean.
func Bool(tag Tag, v bool) *Node {
	n := &Node{Tag: tag, Type: Boolean}
	if v {
		n.Int = 1
	}
	return n
}

// Text makes a text string.
func Text(tag Tag, v string) *Node { return &Node{Tag: tag, Type: TextString, Bytes: []byte(v)} }

// Bytes makes a byte string.
func Bytes(tag Tag, v []byte) *Node { return &Node{Tag: tag, Type: ByteString, Bytes: v} }

// Time makes a date-time, in whole seconds.
func Time(tag Tag, t time.Time) *Node { return &Node{Tag: tag, Type: DateTime, Int: t.Unix()} }

// Seconds makes an interval.
func Seconds(tag Tag, v uint32) *Node { return &Node{Tag: tag, Type: Interval, Int: int64(v)} }

// Big makes a big integer: two's complement, filled up to a multiple of 8 bytes by
// its sign.
func Big(tag Tag, v *big.Int) *Node {
	raw := v.Bytes()
	size := len(raw)/8*8 + 8
	if v.Sign() >= 0 && len(raw) > 0 && len(raw)%8 == 0 && raw[0] < 0x80 {
		size = len(raw)
	}
	out := make([]byte, size)
	if v.Sign() >= 0 {
		copy(out[size-len(raw):], raw)
	} else {
		two := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), uint(8*size)), v)
		two.FillBytes(out)
	}
	return &Node{Tag: tag, Type: BigInteger, Bytes: out}
}

// BigInt is the value of a big integer.
func (n *Node) BigInt() *big.Int {
	v := new(big.Int).SetBytes(n.Bytes)
	if len(n.Bytes) > 0 && n.Bytes[0] >= 0x80 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(n.Bytes))))
	}
	return v
}

// Retag returns n under another tag; children are shared.
func (n *Node) Retag(tag Tag) *Node {
	c := *n
	c.Tag = tag
	return &c
}

// EnumValue finds a value of an enumeration by its name.
func EnumValue(tag Tag, name string) (uint32, bool) {
	for _, n := range enumeration(tag) {
		if n.name == name {
			return n.value, true
		}
	}
	return 0, false
}

// EnumName is what the specifications call a value of an enumeration; its number in
// hexadecimal for one that they do not have.
func EnumName(tag Tag, value uint32) string {
	for _, n := range enumeration(tag) {
		if n.value == value {
			return n.name
		}
	}
	return fmt.Sprintf("0x%08x", value)
}
