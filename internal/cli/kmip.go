package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"arca/internal/ttlv"
)

const (
	kmipPatience = 10 * time.Second
	maxKMIPBytes = 64 << 20
	kmipSoon     = 7 * 24 * time.Hour // certificates that end sooner are worth a word
)

func kmipDoctorCommand() command {
	return command{
		name: "kmip doctor", usage: "[options] HOST:PORT", shared: withFormat,
		summary: "Check a KMIP server as a client sees it",
		about: `Connects to a KMIP server with a client's certificate, and tells what it finds: TLS,
the certificates of both sides and how long they last, the versions that the server
speaks and the operations that the client may use. Exits with 2 when something is
wrong. It works with any KMIP server. Vault has no such command.

    $ arca kmip doctor -ca=ca.pem -cert=cert.pem -key=key.pem kmip.example.com:5696`,
		setup: func(f *flagSet) runFunc {
			o := doctorOptions{
				ca:   f.String("ca", "", "path", "Certificates of the server's authority, PEM."),
				cert: f.String("cert", "", "path", "The client's certificate, PEM."),
				key:  f.String("key", "", "path", "Its private key, PEM; the file of -cert when it is not given."),
				name: f.String("server-name", "", "name", "Name that the server's certificate must have; the host when it is not given."),
			}
			return func(c *call) error { return runKMIPDoctor(c, &o) }
		},
	}
}

type doctorOptions struct{ ca, cert, key, name *string }

// A kmipReport is what the doctor found.
type kmipReport struct {
	Address    string   `json:"address"`
	TLS        string   `json:"tls,omitempty"`
	Server     string   `json:"server,omitempty"`
	Versions   []string `json:"versions,omitempty"`
	Operations []string `json:"operations,omitempty"`
	Notes      []string `json:"notes,omitempty"`
	Faults     []string `json:"faults,omitempty"`
}

func (r *kmipReport) text() string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name, printable(value))
		}
	}
	row("Address", r.Address)
	row("TLS", r.TLS)
	row("Server", r.Server)
	row("Versions", strings.Join(r.Versions, ", "))
	row("Operations", strings.Join(r.Operations, ", "))
	for _, n := range r.Notes {
		b.WriteString("note: " + printable(n) + "\n")
	}
	for _, n := range r.Faults {
		b.WriteString("FAULT: " + printable(n) + "\n")
	}
	return b.String()
}

func runKMIPDoctor(c *call, o *doctorOptions) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	r := &kmipReport{Address: c.args[0]}
	if err := r.examine(c.ctx, o); err != nil {
		r.Faults = append(r.Faults, err.Error())
	}
	if err := c.show(r, r.text); err != nil {
		return err
	}
	if len(r.Faults) > 0 {
		return exit(exitFailure)
	}
	return nil
}

func (o *doctorOptions) settings() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: *o.name}
	if *o.ca != "" {
		raw, err := os.ReadFile(*o.ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", *o.ca)
		}
	}
	if *o.cert == "" {
		return nil, errors.New("a KMIP server wants a client's certificate: -cert")
	}
	key := *o.key
	if key == "" {
		key = *o.cert
	}
	pair, err := tls.LoadX509KeyPair(*o.cert, key)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

func (r *kmipReport) examine(ctx context.Context, o *doctorOptions) error {
	cfg, err := o.settings()
	if err != nil {
		return err
	}
	if leaf, err := x509.ParseCertificate(cfg.Certificates[0].Certificate[0]); err == nil {
		r.lasts("the client's certificate", leaf)
	}
	ctx, cancel := context.WithTimeout(ctx, kmipPatience)
	defer cancel()
	raw, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer raw.Close()
	conn, ok := raw.(*tls.Conn)
	if !ok {
		return errors.New("the connection is not one of TLS")
	}
	_ = conn.SetDeadline(time.Now().Add(kmipPatience)) // else the requests fail anyway
	state := conn.ConnectionState()
	r.TLS = tls.VersionName(state.Version) + ", " + tls.CipherSuiteName(state.CipherSuite)
	r.Server = state.PeerCertificates[0].Subject.String()
	r.lasts("the server's certificate", state.PeerCertificates[0])
	return r.ask(conn)
}

// lasts tells when a certificate ends soon, or has ended.
func (r *kmipReport) lasts(what string, cert *x509.Certificate) {
	left := time.Until(cert.NotAfter)
	switch {
	case left < 0:
		r.Faults = append(r.Faults, fmt.Sprintf("%s ended at %s", what, cert.NotAfter.UTC().Format(time.RFC3339)))
	case left < kmipSoon:
		r.Notes = append(r.Notes, fmt.Sprintf("%s ends at %s", what, cert.NotAfter.UTC().Format(time.RFC3339)))
	}
}

// ask finds out which versions the server speaks and what the client may do.
func (r *kmipReport) ask(conn io.ReadWriter) error {
	out, err := kmipAsk(conn, 1, 1, ttlv.OperationDiscoverVersions)
	if err != nil {
		return fmt.Errorf("ask for the versions (the server may not know the certificate): %w", err)
	}
	major, minor := int64(1), int64(0)
	for _, v := range out.All(ttlv.TagProtocolVersion) {
		a, b := v.Get(ttlv.TagProtocolVersionMajor), v.Get(ttlv.TagProtocolVersionMinor)
		if a == nil || b == nil {
			continue
		}
		r.Versions = append(r.Versions, fmt.Sprintf("%d.%d", a.Int, b.Int))
		if a.Int > major || a.Int == major && b.Int > minor {
			major, minor = a.Int, b.Int
		}
	}
	if len(r.Versions) == 0 {
		return errors.New("the server names no version")
	}
	out, err = kmipAsk(conn, int32(major), int32(minor), ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryOperations))
	if err != nil {
		r.Notes = append(r.Notes, "the client may not ask what it may do: "+err.Error())
		return nil
	}
	for _, op := range out.All(ttlv.TagOperation) {
		r.Operations = append(r.Operations, ttlv.EnumName(ttlv.TagOperation, uint32(op.Int)))
	}
	slices.Sort(r.Operations)
	return nil
}

// kmipAsk sends one operation and returns the payload of its answer.
func kmipAsk(conn io.ReadWriter, major, minor int32, op uint32, payload ...*ttlv.Node) (*ttlv.Node, error) {
	m := ttlv.Struct(ttlv.TagRequestMessage,
		ttlv.Struct(ttlv.TagRequestHeader, ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, major), ttlv.Int(ttlv.TagProtocolVersionMinor, minor)),
			ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, op), ttlv.Struct(ttlv.TagRequestPayload, payload...)))
	if _, err := conn.Write(m.Encode()); err != nil {
		return nil, err
	}
	header := make([]byte, ttlv.HeaderBytes)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	n, err := ttlv.Length(header)
	if err != nil {
		return nil, err
	}
	if n > maxKMIPBytes {
		return nil, errors.New("the answer is too large")
	}
	var raw bytes.Buffer
	raw.Write(header)
	if _, err := io.CopyN(&raw, conn, int64(n-len(header))); err != nil {
		return nil, err
	}
	root, err := ttlv.Decode(raw.Bytes())
	if err != nil {
		return nil, err
	}
	item := root.Get(ttlv.TagBatchItem)
	if reason := item.Get(ttlv.TagResultReason); reason != nil {
		return nil, fmt.Errorf("%s: %s", ttlv.EnumName(ttlv.TagResultReason, uint32(reason.Int)), item.Get(ttlv.TagResultMessage).Text())
	}
	return item.Get(ttlv.TagResponsePayload), nil
}

func kmipDecodeCommand() command {
	return command{
		name: "kmip decode", usage: "[options] FILE",
		summary: "Show a KMIP message",
		about: `Reads a KMIP message in TTLV, as bytes or in hexadecimal, from a file or, as "-", from
the standard input, and writes it in XML. Key material is left out unless
-show-keys is given. Vault has no such command.

    $ xxd -p request.bin | arca kmip decode -`,
		setup: func(f *flagSet) runFunc {
			keys := f.Bool("show-keys", false, "Show key material, too.")
			return func(c *call) error { return runKMIPDecode(c, *keys) }
		},
	}
}

func runKMIPDecode(c *call, keys bool) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	in := c.Stdio.In
	if c.args[0] != "-" {
		f, err := os.Open(c.args[0])
		if err != nil {
			return failf("Error reading the message: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxKMIPBytes+1))
	if err != nil {
		return failf("Error reading the message: %w", err)
	}
	if len(raw) > maxKMIPBytes {
		return failf("The message is too large")
	}
	if text, err := hex.DecodeString(strings.Join(strings.Fields(string(raw)), "")); err == nil {
		raw = text
	}
	n, err := ttlv.Decode(raw)
	if err != nil {
		return failf("Error decoding the message: %w", err)
	}
	if !keys {
		n = n.Redacted()
	}
	_, err = fmt.Fprintf(c.Stdio.Out, "%s\n", harmless(string(ttlv.NewTexts().EncodeXML(n))))
	return err
}

// harmless is XML in which nothing is printable's to replace: such characters are there as
// references, which mean the same to who reads the XML and nothing to a terminal.
func harmless(text string) string {
	var b strings.Builder
	for _, r := range text {
		if s := string(r); printable(s) != s {
			fmt.Fprintf(&b, "&#x%X;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
