package cli

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"arca/internal/kes/identity"
)

const newIdentityUsage = `Usage:
    kes identity new [OPTIONS] [SUBJECT]

Makes an identity: a private key and a self-signed certificate for clients and
servers, valid for 30 days, in two files. Without subject and options it makes an
API key.

Options:
        --key FILE           file of the private key (default private.key)
        --cert FILE          file of the certificate (default public.crt)
        --ip IP              an IP address that the certificate is for; may be repeated
        --dns DOMAIN         a DNS name that the certificate is for; may be repeated.
                             Without it, a subject that can be a DNS name is one
        --expiry DURATION    how long the certificate is valid (default 720h)
        --encrypt            encrypt the private key with a password
    -f, --force              overwrite files
    -h, --help               print this text

Examples:
    kes identity new --ip 127.0.0.1 localhost
    kes identity new --key client.key --cert client.crt MyApp
`

func newIdentityFlags(f *flags) {
	f.takes("key")
	f.takes("cert")
	f.takes("ip")
	f.takes("dns")
	f.takes("expiry")
	f.on("encrypt")
	f.on("force", "f")
	f.takes("color")
}

// A subject that looks so can be a DNS name.
var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

func (c *call) identityNew() error {
	options := false
	for _, name := range []string{"key", "cert", "ip", "dns", "expiry", "encrypt", "force"} {
		options = options || c.is(name)
	}
	if len(c.args) == 0 && !options {
		return c.printNewKey()
	}
	keyFile, certFile := c.text("key"), c.text("cert")
	switch {
	case keyFile == "" && certFile == "":
		keyFile, certFile = "private.key", "public.crt"
	case keyFile == "":
		return errors.New("--cert is set and --key is not: name the file of the private key, too")
	case certFile == "":
		return errors.New("--key is set and --cert is not: name the file of the certificate, too")
	case filepath.Clean(keyFile) == filepath.Clean(certFile):
		return errors.New("--key and --cert name the same file")
	}
	k := identity.NewAPIKey()
	template, err := c.template()
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Private().Public(), k.Private())
	if err != nil {
		return err
	}
	keyPEM, err := c.privatePEM(k.Private())
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writePair(keyFile, keyPEM, certFile, certPEM, c.is("force")); err != nil {
		return err
	}
	c.printf("\n  Private key:  %s\n  Certificate:  %s\n  Identity:     %s\n", keyFile, certFile, k.Identity())
	c.printf("\n")
	if !c.is("encrypt") { // it is the private key
		c.printf("  API key:      %s\n", k.Text())
	}
	c.printf("  Valid until:  %s\n", template.NotAfter.UTC().Format(dateFormat))
	return nil
}

// template is what the certificate will say.
func (c *call) template() (*x509.Certificate, error) {
	expiry := 720 * time.Hour
	if text := c.text("expiry"); text != "" {
		var err error
		if expiry, err = time.ParseDuration(text); err != nil || expiry <= 0 {
			return nil, fmt.Errorf("--expiry: %q is no duration, such as 720h", text)
		}
	}
	subject := ""
	if len(c.args) == 1 {
		subject = c.args[0]
	}
	var ips []net.IP
	for _, text := range c.list("ip") {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, fmt.Errorf("--ip: %q is no IP address", text)
		}
		ips = append(ips, ip)
	}
	names := c.list("dns")
	if len(names) == 0 && len(subject) < 254 && hostName.MatchString(subject) && net.ParseIP(subject) == nil {
		names = []string{subject} // clients look at these names only, no longer at the subject
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             now.Add(-time.Minute), // clocks differ
		NotAfter:              now.Add(expiry),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:              names,
		IPAddresses:           ips,
		BasicConstraintsValid: true,
	}, nil
}

func (c *call) privatePEM(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	if c.is("encrypt") {
		password, err := c.ask("Password for the private key: ")
		if err != nil {
			return nil, err
		}
		again, err := c.ask("The password again: ")
		if err != nil {
			return nil, err
		}
		if string(password) != string(again) {
			return nil, errors.New("the passwords differ")
		}
		block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, der, password, x509.PEMCipherAES256) //nolint:staticcheck // the form that KES reads
		if err != nil {
			return nil, err
		}
	}
	return encodePEM(block), nil
}

func encodePEM(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

// writePair writes both files or neither.
func writePair(keyFile string, key []byte, certFile string, cert []byte, force bool) error {
	if !force {
		for _, f := range []string{keyFile, certFile} {
			if _, err := os.Lstat(f); err == nil {
				return fmt.Errorf("%s exists already: name another file, or overwrite it with --force", f)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := writeFile(keyFile, key, 0o600, force); err != nil {
		return err
	}
	if err := writeFile(certFile, cert, 0o644, force); err != nil {
		if !force {
			_ = os.Remove(keyFile) // it is of no use alone
		}
		return err
	}
	return nil
}

func writeFile(path string, data []byte, mode fs.FileMode, force bool) error {
	flag := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flag, mode) //nolint:gosec // named by the user
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(mode), func() error { _, err := f.Write(data); return err }(), f.Sync())
	return errors.Join(err, f.Close())
}
