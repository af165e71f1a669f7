package audit

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
)

// appendJSONx appends a JSON object as JSONx, IBM's form of JSON in XML
// (https://datatracker.ietf.org/doc/html/draft-rsalz-jsonx-00), in one line.
func appendJSONx(dst, object []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	x := xmlWriter{d: d}
	x.WriteString(xml.Header[:len(xml.Header)-1])
	if err := x.value(` xmlns:json="http://www.ibm.com/xmlns/prod/2009/jsonx"`, nil); err != nil {
		panic("audit: a record is not JSON: " + err.Error()) // it is our own
	}
	return append(dst, x.Bytes()...)
}

type xmlWriter struct {
	bytes.Buffer
	d *json.Decoder
}

func (x *xmlWriter) open(kind, attrs string, name *string) {
	x.WriteString("<json:" + kind + attrs)
	if name != nil {
		x.WriteString(` name="`)
		_ = xml.EscapeText(x, []byte(*name)) // a Buffer takes everything
		x.WriteByte('"')
	}
	x.WriteByte('>')
}

func (x *xmlWriter) leaf(kind, text string, name *string) {
	x.open(kind, "", name)
	_ = xml.EscapeText(x, []byte(text)) // a Buffer takes everything
	x.WriteString("</json:" + kind + ">")
}

// value writes the next value, a member if it has a name.
func (x *xmlWriter) value(attrs string, name *string) error {
	t, err := x.d.Token()
	if err != nil {
		return err
	}
	switch v := t.(type) {
	case json.Delim:
		return x.container(v, attrs, name)
	case string:
		x.leaf("string", v, name)
	case json.Number:
		x.leaf("number", v.String(), name)
	case bool:
		text := "false"
		if v {
			text = "true"
		}
		x.leaf("boolean", text, name)
	default:
		x.open("null", "", name)
		x.WriteString("</json:null>")
	}
	return nil
}

func (x *xmlWriter) container(d json.Delim, attrs string, name *string) error {
	kind := "object"
	if d == '[' {
		kind = "array"
	}
	x.open(kind, attrs, name)
	for x.d.More() {
		var member *string
		if d == '{' {
			t, err := x.d.Token()
			if err != nil {
				return err
			}
			key, ok := t.(string)
			if !ok {
				return errors.New("a key is no string")
			}
			member = &key
		}
		if err := x.value("", member); err != nil {
			return err
		}
	}
	if _, err := x.d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	x.WriteString("</json:" + kind + ">")
	return nil
}
