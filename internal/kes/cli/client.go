package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"arca/internal/kes/identity"
)

// maxAnswer bounds what a server may answer, in bytes.
const maxAnswer = 16 << 20

// A client asks one of several servers, the next when one cannot be reached.
type client struct {
	endpoints []string
	http      *http.Client
}

// first returns the first of the environment variables that is set.
func (a *app) first(names ...string) string {
	for _, n := range names {
		if v := a.env[n]; v != "" {
			return v
		}
	}
	return ""
}

func (a *app) endpoints(flag string) []string {
	text := flag
	if text == "" {
		text = a.first("MINIO_KES_SERVER", "KES_SERVER", "MINIO_KMS_KES_ENDPOINT")
	}
	var out []string
	for _, e := range strings.Split(text, ",") {
		if e = strings.TrimSuffix(strings.TrimSpace(e), "/"); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "https://" + e
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		out = []string{"https://127.0.0.1:7373"}
	}
	return out
}

// client makes a client of the environment and the command's flags.
func (c *call) client() (*client, error) {
	cert, err := c.credentials(c.text("api-key"))
	if err != nil {
		return nil, err
	}
	dial := &net.Dialer{Timeout: 10 * time.Second}
	out := &client{endpoints: c.endpoints(c.text("server")), http: &http.Client{
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: dial.DialContext,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				Certificates:       []tls.Certificate{*cert},
				InsecureSkipVerify: c.is("insecure"), //nolint:gosec // asked for by -k
			},
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, e := range out.endpoints {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "https" {
			return nil, fmt.Errorf("%q is no address of a KES server, such as https://127.0.0.1:7373", e)
		}
	}
	return out, nil
}

// credentials returns the certificate that says who asks.
func (a *app) credentials(flag string) (*tls.Certificate, error) {
	apiKey := flag
	if apiKey == "" {
		apiKey = a.first("MINIO_KES_API_KEY", "KES_API_KEY", "MINIO_KMS_KES_API_KEY")
	}
	keyFile := a.first("MINIO_KES_KEY_FILE", "KES_CLIENT_KEY", "MINIO_KES_CLIENT_KEY")
	certFile := a.first("MINIO_KES_CERT_FILE", "KES_CLIENT_CERT", "MINIO_KES_CLIENT_CERT")
	switch {
	case apiKey != "" && flag == "" && (keyFile != "" || certFile != ""):
		return nil, errors.New("an API key and a client certificate are both set: unset KES_API_KEY, or KES_CLIENT_CERT and KES_CLIENT_KEY")
	case apiKey != "":
		k, err := identity.ParseAPIKey(apiKey)
		if err != nil {
			return nil, err
		}
		cert, err := k.Certificate(time.Now())
		return &cert, err
	case keyFile == "" && certFile == "":
		return nil, errors.New("no credentials: set KES_API_KEY, or KES_CLIENT_CERT and KES_CLIENT_KEY")
	case certFile == "":
		return nil, errors.New("the client's certificate is missing: set KES_CLIENT_CERT beside KES_CLIENT_KEY")
	case keyFile == "":
		return nil, errors.New("the client's private key is missing: set KES_CLIENT_KEY beside KES_CLIENT_CERT")
	}
	return a.loadPair(certFile, keyFile)
}

func (a *app) loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile) //nolint:gosec // named by the user
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile) //nolint:gosec // named by the user
	if err != nil {
		return nil, fmt.Errorf("client's private key: %w", err)
	}
	block, err := identity.PrivateKeyPEM(keyPEM, nil)
	if errors.Is(err, identity.ErrEncrypted) {
		var password []byte
		if password, err = a.ask("Password for " + keyFile + ": "); err != nil {
			return nil, err
		}
		block, err = identity.PrivateKeyPEM(keyPEM, password)
	}
	if err != nil {
		return nil, fmt.Errorf("client's private key %s: %w", keyFile, err)
	}
	pair, err := tls.X509KeyPair(certPEM, encodePEM(block))
	if err != nil {
		return nil, fmt.Errorf("client certificate %s and private key %s: %w", certFile, keyFile, err)
	}
	return &pair, nil
}

// ask reads a password unseen from the terminal.
func (a *app) ask(question string) ([]byte, error) {
	f, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("the private key is encrypted, and there is no terminal to ask for its password")
	}
	fmt.Fprint(a.Err, question)
	defer fmt.Fprintln(a.Err)
	return term.ReadPassword(int(f.Fd()))
}

// An apiError is a refusal of the server.
type apiError struct {
	code    int
	message string
}

func (e *apiError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code))
	}
	return e.message
}

// open sends a request and returns the answer of a success.
func (c *client) open(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	var last error
	for _, e := range c.endpoints {
		r, err := http.NewRequestWithContext(ctx, method, e+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		answer, err := c.http.Do(r)
		if err != nil {
			last = advise(err)
			continue
		}
		if answer.StatusCode == http.StatusOK {
			return answer, nil
		}
		refusal := readRefusal(answer)
		if answer.StatusCode < 500 || answer.StatusCode == http.StatusNotImplemented {
			return nil, refusal
		}
		last = refusal
	}
	return nil, last
}

// advise says what can be done about a certificate that is not trusted.
func advise(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return fmt.Errorf("%w (trust it by SSL_CERT_FILE=FILE, or for a test by -k)", err)
	}
	return err
}

func readRefusal(answer *http.Response) error {
	defer answer.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // what came suffices
	var said struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(data, &said)
	return &apiError{answer.StatusCode, said.Message}
}

// do asks, and decodes the answer into out, which may be nil.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	answer, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case out == nil:
		return nil
	case json.Unmarshal(data, out) != nil:
		return errors.New("the server's answer is not what a KES server answers")
	}
	return nil
}

// list returns all names of a listing, page after page.
func (c *client) list(ctx context.Context, kind, pattern string) ([]string, error) {
	all, at := []string{}, pattern
	for {
		var page struct {
			Names      []string `json:"names"`
			Identities []string `json:"identities"`
			ContinueAt string   `json:"continue_at"`
		}
		if err := c.do(ctx, http.MethodGet, "/v1/"+kind+"/list/"+url.PathEscape(at), nil, &page); err != nil {
			return nil, err
		}
		all = append(append(all, page.Names...), page.Identities...)
		if page.ContinueAt == "" || page.ContinueAt == at {
			return all, nil
		}
		at = page.ContinueAt
	}
}
