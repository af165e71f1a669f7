package cli

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // Vault's import takes these hashes
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"arca/internal/keywrap"
)

func transitImportCommand() command {
	return command{
		name: "transit import", usage: "[options] PATH KEY [options...]", shared: withAll,
		summary: "Import a key into a transit engine",
		about: `Wraps a key for the engine, so that it is not seen on its way, and imports it as
a new key. KEY is the key in base64, PKCS #8 where it is not symmetric, or @ and
the name of a file that holds it, in base64 or PEM. What follows are parameters of
the import, such as the key's type.

    $ vault transit import transit/keys/new @key.pem type=rsa-2048`,
		setup: func(*flagSet) runFunc { return func(c *call) error { return c.transitImport("import") } },
	}
}

func transitImportVersionCommand() command {
	return command{
		name: "transit import-version", usage: "[options] PATH KEY [options...]", shared: withAll,
		summary: "Import a version of a key into a transit engine",
		about: `Like "transit import", for a new version of a key that was imported before.

    $ vault transit import-version transit/keys/new @key2.pem`,
		setup: func(*flagSet) runFunc { return func(c *call) error { return c.transitImport("import_version") } },
	}
}

func (c *call) transitImport(endpoint string) error {
	if err := c.counted(2, -1, ">1"); err != nil {
		return err
	}
	mount, name, ok := strings.Cut(strings.Trim(c.args[0], "/"), "/keys/")
	if !ok || mount == "" || name == "" || strings.Contains(name, "/") {
		return usagef("expected transit path and key name in the form :path:/keys/:name:")
	}
	key, err := keyMaterial(c.args[1])
	if err != nil {
		return err
	}
	defer clear(key)
	data, err := c.parseData(c.args[2:])
	if err != nil {
		return err
	}
	hash, err := importHash(data)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Stdio.Err, "Retrieving wrapping key.")
	public, err := c.wrappingKey(client, mount)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Stdio.Err, "Wrapping source key with ephemeral key, and that with the wrapping key.")
	sealed, err := keywrap.Seal(public, hash, key)
	if err != nil {
		return failf("failed to wrap key: %w", err)
	}
	data["ciphertext"] = base64.StdEncoding.EncodeToString(sealed)
	fmt.Fprintln(c.Stdio.Err, "Submitting wrapped key.")
	path := mount + "/keys/" + name + "/" + endpoint
	if _, err := client.Logical().WriteWithContext(c.ctx, path, data); err != nil {
		return failf("failed to call import: %w", err)
	}
	fmt.Fprintln(c.Stdio.Out, "Success!")
	return nil
}

// keyMaterial reads the key of an argument: base64 or PEM, itself or in a file.
func keyMaterial(arg string) ([]byte, error) {
	text := arg
	if file, isFile := strings.CutPrefix(arg, "@"); isFile {
		raw, err := os.ReadFile(file) //nolint:gosec // the file that the user names
		if err != nil {
			return nil, failf("error reading key file: %w", err)
		}
		text = string(raw)
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return block.Bytes, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, failf("the key is neither base64 nor PEM: %w", err)
	}
	return key, nil
}

// importHash is the hash of the wrapping, which is a parameter of the import, too.
func importHash(data map[string]any) (crypto.Hash, error) {
	name, _ := data["hash_function"].(string)
	switch strings.ReplaceAll(strings.ToUpper(name), "-", "") {
	case "", "SHA256":
		return crypto.SHA256, nil
	case "SHA1":
		return crypto.SHA1, nil
	case "SHA224":
		return crypto.SHA224, nil
	case "SHA384":
		return crypto.SHA384, nil
	case "SHA512":
		return crypto.SHA512, nil
	}
	return 0, usagef("unsupported hash function %q", name)
}

func (c *call) wrappingKey(client *api.Client, mount string) (*rsa.PublicKey, error) {
	s, err := client.Logical().ReadWithContext(c.ctx, mount+"/wrapping_key")
	if err != nil {
		return nil, failf("failed to fetch wrapping key: %w", err)
	}
	if s == nil {
		return nil, failf("no mount found at %s", mount)
	}
	text, _ := s.Data["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, failf("failed to parse wrapping key: it is not in PEM format")
	}
	p, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, failf("failed to parse wrapping key: %w", err)
	}
	k, ok := p.(*rsa.PublicKey)
	if !ok {
		return nil, failf("the wrapping key is not one of RSA")
	}
	return k, nil
}
