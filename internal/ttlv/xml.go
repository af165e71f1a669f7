package ttlv

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
)

// DecodeXML reads one message. What it holds more than elements and their attributes,
// of the kind of document types, is refused.
func (x *Texts) DecodeXML(b []byte) (*Node, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = true
	var root *Node
	var stack []*Node
	nodes := 0
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, bad("it is no XML")
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if nodes++; nodes > MaxNodes {
				return nil, bad("it has more than %d values", MaxNodes)
			}
			if len(stack) == 0 && root != nil {
				return nil, bad("more follows behind it")
			}
			if len(stack) == MaxDepth {
				return nil, bad("it is deeper than %d levels", MaxDepth)
			}
			var parent *Node
			if len(stack) > 0 {
				parent = stack[len(stack)-1]
				if parent.Type != Structure {
					return nil, bad("%s is no structure", parent.Tag)
				}
			}
			n, err := x.element(parent, &t)
			if err != nil {
				return nil, err
			}
			if parent != nil {
				parent.Children = append(parent.Children, n)
			} else {
				root = n
			}
			stack = append(stack, n)
		case xml.EndElement:
			if len(stack) == 0 {
				return nil, bad("it is no XML")
			}
			stack = stack[:len(stack)-1]
		case xml.Directive:
			return nil, bad("it has a document type")
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, bad("it has text between its elements")
			}
		}
	}
	if root == nil || len(stack) > 0 {
		return nil, bad("it ends too early")
	}
	return root, nil
}

func (x *Texts) element(parent *Node, t *xml.StartElement) (*Node, error) {
	name, typ, value, tagAttr := t.Name.Local, "", "", ""
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "type":
			typ = a.Value
		case "value":
			value = a.Value
		case "tag":
			tagAttr = a.Value
		}
	}
	if name == "TTLV" && tagAttr != "" {
		name = tagAttr
	}
	tag, ok := x.tag(name)
	if !ok {
		return nil, bad("an element is no tag of KMIP")
	}
	kind, ok := typeNamed(typ)
	if !ok {
		return nil, bad("%s has an unknown type", tag)
	}
	n := &Node{Tag: tag, Type: kind}
	return n, x.fill(n, x.context(parent, tag), value)
}

// EncodeXML writes a message.
func (x *Texts) EncodeXML(n *Node) []byte {
	var out bytes.Buffer
	x.writeXML(&out, nil, n)
	return out.Bytes()
}

func (x *Texts) writeXML(out *bytes.Buffer, parent, n *Node) {
	name := n.Tag.name()
	out.WriteByte('<')
	if name == "" {
		name = "TTLV"
		out.WriteString(`TTLV tag="` + n.Tag.String() + `"`)
	} else {
		out.WriteString(name)
	}
	if n.Type == Structure {
		out.WriteByte('>')
		for _, c := range n.Children {
			x.writeXML(out, n, c)
		}
		out.WriteString("</" + name + ">")
		return
	}
	out.WriteString(` type="` + typeNames()[n.Type] + `" value="`)
	_ = xml.EscapeText(out, []byte(n.show(x.context(parent, n.Tag), " "))) // a buffer never fails
	out.WriteString(`"/>`)
}
