package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// parseData reads arguments of the forms key=value, key=@file, key=-, @file
// and - (JSON from a file or from standard input). A key given twice becomes a
// list. A backslash before @ or - takes it literally.
func (c *call) parseData(args []string) (map[string]any, error) {
	data := map[string]any{}
	for _, arg := range args {
		if err := c.addPair(data, arg); err != nil {
			return nil, usagef("Failed to parse K=V data: invalid key/value pair %q: %w", arg, err)
		}
	}
	return data, nil
}

// parseStrings is parseData for callers that need texts only.
func (c *call) parseStrings(args []string) (map[string]string, error) {
	data := map[string]any{}
	for _, arg := range args {
		if err := c.addPair(data, arg); err != nil {
			return nil, fmt.Errorf("invalid key/value pair %q: %w", arg, err)
		}
	}
	out := make(map[string]string, len(data))
	for k, v := range data {
		out[k] = fmt.Sprint(v)
	}
	return out, nil
}

func (c *call) addPair(data map[string]any, arg string) error {
	if arg == "" {
		return nil
	}
	if arg == "-" {
		return decodeObject(c.Stdio.In, data)
	}
	if path, ok := strings.CutPrefix(arg, "@"); ok {
		f, err := os.Open(c.env.expand(path))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		return decodeObject(f, data)
	}
	key, text, ok := strings.Cut(arg, "=")
	if !ok {
		return fmt.Errorf("format must be key=value")
	}
	value, err := c.value(text)
	if err != nil {
		return err
	}
	switch old := data[key].(type) {
	case nil:
		data[key] = value
	case []any:
		data[key] = append(old, value)
	default:
		data[key] = []any{old, value}
	}
	return nil
}

// value resolves @file and -.
func (c *call) value(text string) (string, error) {
	if path, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(c.env.expand(path))
		if err != nil {
			return "", fmt.Errorf("error reading file: %w", err)
		}
		return string(b), nil
	}
	if text == "-" {
		b, err := io.ReadAll(c.Stdio.In)
		if err != nil {
			return "", fmt.Errorf("error reading from stdin: %w", err)
		}
		return string(b), nil
	}
	if strings.HasPrefix(text, `\@`) || text == `\-` {
		return text[1:], nil
	}
	return text, nil
}

// decodeObject adds the members of a JSON object; numbers keep their digits.
func decodeObject(r io.Reader, into map[string]any) error {
	dec := json.NewDecoder(r)
	dec.UseNumber()
	return dec.Decode(&into)
}

// readArg returns an argument that may stand for standard input ("-").
func (c *call) readArg(arg string) (string, error) {
	if arg != "-" {
		return strings.TrimSpace(arg), nil
	}
	b, err := io.ReadAll(c.Stdio.In)
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// text is a data value as a query parameter shows it.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
