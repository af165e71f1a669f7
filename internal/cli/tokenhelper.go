package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl"
)

// A helper keeps the token between commands.
type helper interface {
	get() (string, error)
	store(token string) error
	erase() error
}

var (
	_ helper = fileHelper("")
	_ helper = (*programHelper)(nil)
)

// tokenHelper returns the helper that ~/.vault (or the file VAULT_CONFIG_PATH
// names) chooses: a program, or else the file ~/.vault-token.
func (c *call) tokenHelper() (helper, error) {
	program, err := c.helperProgram()
	if err != nil {
		return nil, err
	}
	if program != "" {
		return &programHelper{program: program, env: c.Env}, nil
	}
	return fileHelper(filepath.Join(c.env.home(), ".vault-token")), nil
}

// helperProgram reads token_helper from the configuration file; "" if unset.
func (c *call) helperProgram() (string, error) {
	if p := c.env.get("VAULT_TOKEN_HELPER"); p != "" {
		return c.env.expand(p), nil
	}
	path := c.env.get("VAULT_CONFIG_PATH")
	if path == "" {
		path = filepath.Join(c.env.home(), ".vault")
	}
	path = c.env.expand(path)
	text, err := os.ReadFile(path) //nolint:gosec // the user's own configuration file
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if info, serr := os.Stat(path); serr == nil && info.IsDir() {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	var conf struct {
		TokenHelper string `hcl:"token_helper"`
	}
	if err := hcl.Decode(&conf, string(text)); err != nil {
		return "", fmt.Errorf("read configuration %s: %w", path, err)
	}
	if conf.TokenHelper == "" {
		return "", nil
	}
	program, err := filepath.Abs(c.env.expand(conf.TokenHelper))
	if err != nil {
		return "", err
	}
	return program, nil
}

// fileHelper keeps the token in a file that only its owner reads.
type fileHelper string

func (f fileHelper) get() (string, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// store writes a new file and renames it over the old one, so that a reader
// sees one token or the other.
func (f fileHelper) store(token string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name()) // the write's error counts
		}
	}()
	if _, err = tmp.WriteString(token); err != nil {
		_ = tmp.Close()
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), string(f))
}

func (f fileHelper) erase() error {
	if err := os.Remove(string(f)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// programHelper runs an external program with one of the arguments get, store
// (the token on its standard input) and erase.
type programHelper struct {
	program string
	env     []string
}

func (p *programHelper) run(operation, stdin string) (string, error) {
	cmd := exec.Command(p.program, operation) //nolint:gosec // the user configured this program
	cmd.Env, cmd.Stdin = p.env, strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", p.program, operation, err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func (p *programHelper) get() (string, error) {
	out, err := p.run("get", "")
	return strings.TrimSpace(out), err
}

func (p *programHelper) store(token string) error {
	_, err := p.run("store", token)
	return err
}

func (p *programHelper) erase() error {
	_, err := p.run("erase", "")
	return err
}
