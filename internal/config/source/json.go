package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// parseJSON reads one JSON object. encoding/json would lose the places and the
// order, so this walks its tokens.
func parseJSON(name string, text []byte) (*Value, error) {
	p := &jsonParser{name: name, text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fault(p.at(p.dec.InputOffset()), "", "there is more behind the closing brace")
	}
	return &v, nil
}

type jsonParser struct {
	name string
	text []byte
	dec  *json.Decoder
}

func (p *jsonParser) at(offset int64) Pos {
	offset = min(max(offset, 0), int64(len(p.text)))
	before := string(p.text[:offset])
	return Pos{File: p.name, Line: strings.Count(before, "\n") + 1, Column: len(before) - strings.LastIndexByte(before, '\n')}
}

// here is the place of the token that comes next.
func (p *jsonParser) here() Pos {
	i := p.dec.InputOffset()
	for i < int64(len(p.text)) && strings.IndexByte(" \t\r\n,:", p.text[i]) >= 0 {
		i++
	}
	return p.at(i)
}

func (p *jsonParser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if err == nil {
		return t, nil
	}
	at := p.here()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fault(p.at(int64(len(p.text))), "", "the text ends too early: a closing brace, bracket or quote is missing")
	}
	line := lineOf(string(p.text), at.Line)
	return nil, fault(at, hintJSON(line), "this is not JSON: %s", err.Error())
}

func (p *jsonParser) value(depth int) (Value, error) {
	if depth > maxNesting {
		return Value{}, fault(p.here(), "", "nested deeper than %d levels", maxNesting)
	}
	v := Value{Pos: p.here()}
	t, err := p.token()
	if err != nil {
		return v, err
	}
	switch t := t.(type) {
	case nil:
	case bool:
		v.Kind, v.Text = Bool, "false"
		if t {
			v.Text = "true"
		}
	case json.Number:
		v.Kind, v.Text = Number, t.String()
	case string:
		v.Kind, v.Text = String, t
	case json.Delim:
		if t == '[' {
			return p.list(v, depth)
		}
		return p.object(v, depth)
	}
	return v, nil
}

func (p *jsonParser) list(v Value, depth int) (Value, error) {
	v.Kind = List
	for p.dec.More() {
		e, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.List = append(v.List, e)
	}
	_, err := p.token()
	return v, err
}

func (p *jsonParser) object(v Value, depth int) (Value, error) {
	v.Kind = Object
	for p.dec.More() {
		it := Item{Pos: p.here()}
		t, err := p.token()
		if err != nil {
			return v, err
		}
		it.Key, _ = t.(string) // the decoder takes nothing else for a key
		if it.Value, err = p.value(depth + 1); err != nil {
			return v, err
		}
		v.Items = append(v.Items, it)
	}
	_, err := p.token()
	return v, err
}
