package ttlv

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

type jsonNode struct {
	Tag   string          `json:"tag"`
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// DecodeJSON reads one message.
func (x *Texts) DecodeJSON(b []byte) (*Node, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	var in jsonNode
	if err := d.Decode(&in); err != nil {
		return nil, bad("it is no JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("more follows behind it")
	}
	nodes := 0
	return x.fromJSON(nil, &in, 1, &nodes)
}

func (x *Texts) fromJSON(parent *Node, in *jsonNode, depth int, nodes *int) (*Node, error) {
	if *nodes++; *nodes > MaxNodes {
		return nil, bad("it has more than %d values", MaxNodes)
	}
	if depth > MaxDepth {
		return nil, bad("it is deeper than %d levels", MaxDepth)
	}
	tag, ok := x.tag(in.Tag)
	if !ok {
		return nil, bad("a member is no tag of KMIP")
	}
	kind, ok := typeNamed(in.Type)
	if !ok {
		return nil, bad("%s has an unknown type", tag)
	}
	n := &Node{Tag: tag, Type: kind}
	if kind != Structure {
		text := string(in.Value)
		if strings.HasPrefix(text, `"`) {
			if json.Unmarshal(in.Value, &text) != nil {
				return nil, bad("the value of %s cannot be read", tag)
			}
		} else if kind == TextString || kind == ByteString {
			return nil, bad("the value of %s is no text", tag)
		}
		return n, x.fill(n, x.context(parent, tag), text)
	}
	var list []jsonNode
	if len(in.Value) > 0 && json.Unmarshal(in.Value, &list) != nil {
		return nil, bad("the value of %s is no list", tag)
	}
	for i := range list {
		c, err := x.fromJSON(n, &list[i], depth+1, nodes)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	return n, nil
}

// EncodeJSON writes a message.
func (x *Texts) EncodeJSON(n *Node) []byte {
	var out bytes.Buffer
	x.writeJSON(&out, nil, n)
	return out.Bytes()
}

func (x *Texts) writeJSON(out *bytes.Buffer, parent, n *Node) {
	out.WriteString(`{"tag":"` + n.Tag.String() + `"`)
	if n.Type == Structure {
		out.WriteString(`,"value":[`)
		for i, c := range n.Children {
			if i > 0 {
				out.WriteByte(',')
			}
			x.writeJSON(out, n, c)
		}
		out.WriteString("]}")
		return
	}
	out.WriteString(`,"type":"` + typeNames()[n.Type] + `","value":`)
	text := n.show(x.context(parent, n.Tag), "|")
	const exact = 1 << 52 // above it, numbers are written as texts
	switch {
	case n.Type == Boolean, n.Type == Interval, n.Type == Integer && text == strconv.FormatInt(n.Int, 10), n.Type == LongInteger && n.Int < exact && n.Int > -exact:
		out.WriteString(text)
	case n.Type == LongInteger:
		out.WriteString(`"0x` + strconv.FormatUint(uint64(n.Int), 16) + `"`)
	case n.Type == BigInteger:
		out.WriteString(`"0x` + text + `"`)
	default:
		raw, err := json.Marshal(text)
		if err != nil {
			raw = []byte(`""`) // texts were checked when they came in
		}
		out.Write(raw)
	}
	out.WriteByte('}')
}
