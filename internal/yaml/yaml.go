// Package yaml reads and writes YAML by the names and rules of encoding/json, as Kubernetes and Vault do.
package yaml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Marshal writes v, which encoding/json can write, as YAML with sorted keys.
func Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var plain any
	if err := d.Decode(&plain); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(withNumbers(plain)); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// withNumbers has numbers written as they are, not as texts.
func withNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = withNumbers(x)
		}
	case []any:
		for i, x := range v {
			v[i] = withNumbers(x)
		}
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(v.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v.String()}
	}
	return v
}

// Unmarshal reads one document of YAML, or JSON, into v by its json tags. Keys must be texts, each there once.
func Unmarshal(text []byte, v any) error { return read(text, v, false) }

// UnmarshalStrict is Unmarshal, and refuses keys that v does not have.
func UnmarshalStrict(text []byte, v any) error { return read(text, v, true) }

func read(text []byte, v any, strict bool) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var plain any
	if err := d.Decode(&plain); err != nil && err != io.EOF { //nolint:errorlint // as the decoder returns it
		return err
	}
	raw, err := json.Marshal(plain)
	if err != nil {
		return fmt.Errorf("yaml: keys must be texts: %w", err)
	}
	j := json.NewDecoder(bytes.NewReader(raw))
	if strict {
		j.DisallowUnknownFields()
	}
	return j.Decode(v)
}
