package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

func keyCommands() table {
	return table{
		group("key", "Manage and use keys.",
			"create", "make keys", "import", "make a key of given bytes", "info", "tell about a key", "ls", "list keys", "rm", "delete keys",
			"encrypt", "encrypt a text", "decrypt", "decrypt a ciphertext", "dek", "make a data key"),
		{name: "key create", least: 1, most: -1, flags: asking, run: (*call).keyCreate, usage: usage("key create NAME...", "Makes keys, one after the other.", askingUsage)},
		{name: "key import", least: 2, most: 2, flags: asking, run: (*call).keyImport, usage: usage("key import NAME BASE64", "Makes a key of 32 given bytes, for AES-256.", askingUsage)},
		{name: "key info", least: 1, most: 1, flags: listing, run: (*call).keyInfo, usage: usage("key info NAME", "Tells about a key.", listingUsage)},
		{name: "key ls", most: 1, flags: listing, run: func(c *call) error { return c.listNames("key", "Key") }, usage: usage("key ls [PATTERN]", "Lists the keys whose names begin so.", listingUsage)},
		{name: "key rm", least: 1, most: -1, flags: asking, run: (*call).keyRemove, usage: usage("key rm NAME...", "Deletes keys: what they have encrypted cannot be read any more.", askingUsage)},
		{name: "key encrypt", least: 2, most: 2, flags: asking, run: (*call).keyEncrypt, usage: usage("key encrypt NAME TEXT", "Encrypts a text.", askingUsage)},
		{name: "key decrypt", least: 2, most: 3, flags: asking, run: (*call).keyDecrypt, usage: usage("key decrypt NAME BASE64 [CONTEXT64]", "Decrypts a ciphertext.", askingUsage)},
		{name: "key dek", least: 1, most: 2, flags: asking, run: (*call).keyDEK, usage: usage("key dek NAME [CONTEXT64]", "Makes a data key: in clear, and encrypted with the key.", askingUsage)},
	}
}

// each does something with every name, and stops at the first error.
func (c *call) each(method, path, what string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	for _, name := range c.args {
		if err := client.do(c.ctx, method, path+url.PathEscape(name), nil, nil); err != nil {
			return fmt.Errorf("%s %q: %w", what, name, err)
		}
	}
	return nil
}

func (c *call) keyCreate() error { return c.each(http.MethodPut, "/v1/key/create/", "create key") }
func (c *call) keyRemove() error { return c.each(http.MethodDelete, "/v1/key/delete/", "delete key") }

func (c *call) keyImport() error {
	secret, err := base64.StdEncoding.DecodeString(c.args[1])
	if err != nil {
		return fmt.Errorf("import key %q: the key is not base64", c.args[0])
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	in := struct {
		Key    []byte `json:"key"`
		Cipher string `json:"cipher"`
	}{secret, "AES256"}
	if err := client.do(c.ctx, http.MethodPut, "/v1/key/import/"+url.PathEscape(c.args[0]), in, nil); err != nil {
		return fmt.Errorf("import key %q: %w", c.args[0], err)
	}
	return nil
}

const dateFormat = "2006-01-02 15:04:05"

func (c *call) keyInfo() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := client.do(c.ctx, http.MethodGet, "/v1/key/describe/"+url.PathEscape(c.args[0]), nil, &raw); err != nil {
		return fmt.Errorf("describe key %q: %w", c.args[0], err)
	}
	var out struct {
		Name      string    `json:"name"`
		Algorithm string    `json:"algorithm"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return errors.New("the server's answer is not what a KES server answers")
	}
	if c.is("json") {
		return c.printJSON(out)
	}
	c.row("Name", out.Name)
	c.row("Algorithm", out.Algorithm)
	c.row("Date", out.CreatedAt.UTC().Format(dateFormat))
	if out.CreatedBy != "" {
		c.row("Owner", out.CreatedBy)
	}
	return nil
}

func (c *call) row(name, value string) {
	c.printf("%s%*s%s\n", c.heading(name), max(1, 11-len(name)), "", value)
}

func (c *call) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.printf("%s\n", b)
	return nil
}

// listNames prints a listing with its heading, and nothing when it is empty.
func (c *call) listNames(kind, heading string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	pattern := "*"
	if len(c.args) > 0 {
		pattern = c.args[0]
	}
	names, err := client.list(c.ctx, kind, pattern)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if c.is("json") {
		return c.printJSON(names)
	}
	if len(names) > 0 {
		c.printf("%s\n", c.heading(heading))
	}
	for _, n := range names {
		c.printf("%s\n", n)
	}
	return nil
}

func (c *call) keyEncrypt() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	in := map[string][]byte{"plaintext": []byte(c.args[1])}
	if err := client.do(c.ctx, http.MethodPut, "/v1/key/encrypt/"+url.PathEscape(c.args[0]), in, &out); err != nil {
		return fmt.Errorf("encrypt with key %q: %w", c.args[0], err)
	}
	if !c.tty {
		return c.printJSON(out)
	}
	c.printf("\nciphertext: %s\n", base64.StdEncoding.EncodeToString(out.Ciphertext))
	return nil
}

// context decodes the argument at i, if there is one.
func (c *call) context(i int) ([]byte, error) {
	if len(c.args) <= i {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(c.args[i])
	if err != nil {
		return nil, errors.New("the context is not base64")
	}
	return b, nil
}

func (c *call) keyDecrypt() error {
	ciphertext, err := base64.StdEncoding.DecodeString(c.args[1])
	if err != nil {
		return errors.New("the ciphertext is not base64")
	}
	context, err := c.context(2)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	in := struct {
		Ciphertext []byte `json:"ciphertext"`
		Context    []byte `json:"context,omitempty"`
	}{ciphertext, context}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	if err := client.do(c.ctx, http.MethodPut, "/v1/key/decrypt/"+url.PathEscape(c.args[0]), in, &out); err != nil {
		return fmt.Errorf("decrypt with key %q: %w", c.args[0], err)
	}
	if !c.tty {
		return c.printJSON(out)
	}
	c.printf("\nplaintext: %s\n", base64.StdEncoding.EncodeToString(out.Plaintext))
	return nil
}

func (c *call) keyDEK() error {
	context, err := c.context(1)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	in := struct {
		Context []byte `json:"context,omitempty"`
	}{context}
	var out struct {
		Plaintext  []byte `json:"plaintext"`
		Ciphertext []byte `json:"ciphertext"`
	}
	if err := client.do(c.ctx, http.MethodPut, "/v1/key/generate/"+url.PathEscape(c.args[0]), in, &out); err != nil {
		return fmt.Errorf("make a data key with key %q: %w", c.args[0], err)
	}
	if !c.tty {
		return c.printJSON(out)
	}
	c.printf("{\n  plaintext : %s\n  ciphertext: %s\n}\n",
		base64.StdEncoding.EncodeToString(out.Plaintext), base64.StdEncoding.EncodeToString(out.Ciphertext))
	return nil
}
