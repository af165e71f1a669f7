// Package kubernetes asks the API of a Kubernetes cluster: that which this server runs in, by its service account, or the one of a kubeconfig
// file. It has what service registration and auto_join need, and no more.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"arca/internal/errs"
)

// AccountDir is where Kubernetes puts a pod's service account.
const AccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	dialTime    = 3 * time.Second
	requestTime = 10 * time.Second
	maxAnswer   = 32 << 20 // a list of pods
	maxMessage  = 4 << 10  // of an error
	maxFile     = 1 << 20
)

// A Client speaks to one API server. It is safe for concurrent use.
type Client struct {
	base  string
	token func() (string, error)
	http  *http.Client
}

// InCluster makes the client of a pod. dir is AccountDir if "". The token is read for every request: it is renewed on the disk.
func InCluster(dir string, getenv func(string) string) (*Client, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errs.New(errs.Invalid, "this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	if dir == "" {
		dir = AccountDir
	}
	ca, err := readFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, errs.New(errs.Invalid, "the service account: %w", err)
	}
	file := filepath.Join(dir, "token")
	if _, err := readToken(file); err != nil {
		return nil, err
	}
	roots, err := pool(ca)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the service account's ca.crt: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return newClient("https://"+net.JoinHostPort(host, port), conf, func() (string, error) { return readToken(file) }), nil
}

func newClient(base string, conf *tls.Config, token func() (string, error)) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), token: token, http: &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}}
}

func readToken(file string) (string, error) {
	text, err := readFile(file)
	if err != nil {
		return "", errs.New(errs.Invalid, "the service account's token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func pool(pem []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, errs.New(errs.Invalid, "it holds no certificate")
	}
	return p, nil
}

// An Error is an answer that refuses.
type Error struct {
	Status  int
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	return "Kubernetes answers " + http.StatusText(e.Status) + ": " + e.Message
}

// Do makes a request; out takes the JSON of the answer, if it is not nil.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return errs.New(errs.Invalid, "%w", err)
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "reach Kubernetes: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	if res.StatusCode/100 != 2 {
		return refusal(res)
	}
	in := io.LimitReader(res.Body, maxAnswer)
	if out == nil {
		_, err = io.Copy(io.Discard, in) // so that the connection is used again
	} else {
		err = json.NewDecoder(in).Decode(out)
	}
	if err != nil {
		return errs.New(errs.Unavailable, "read the answer of Kubernetes: %w", err)
	}
	return nil
}

func refusal(res *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(res.Body, maxMessage)) // what came is shown
	var status struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(raw, &status); err != nil || status.Message == "" {
		status.Message = res.Status
	}
	return errs.With(errs.Unavailable, &Error{res.StatusCode, status.Message})
}

// Close ends the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// kubeconfig is what is read of such a file.
type kubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster   string `yaml:"cluster"`
			User      string `yaml:"user"`
			Namespace string `yaml:"namespace"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string `yaml:"name"`
		Cluster struct {
			Server     string `yaml:"server"`
			ServerName string `yaml:"tls-server-name"`
			Insecure   bool   `yaml:"insecure-skip-tls-verify"`
			CA         string `yaml:"certificate-authority"`
			CAData     string `yaml:"certificate-authority-data"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User struct {
			Token     string `yaml:"token"`
			TokenFile string `yaml:"tokenFile"`
			Cert      string `yaml:"client-certificate"`
			CertData  string `yaml:"client-certificate-data"`
			Key       string `yaml:"client-key"`
			KeyData   string `yaml:"client-key-data"`
			Exec      any    `yaml:"exec"`
			Provider  any    `yaml:"auth-provider"`
			Username  string `yaml:"username"`
		} `yaml:"user"`
	} `yaml:"users"`
}

// FromFile makes the client of a kubeconfig file's current context. Of ways to log in it knows tokens and certificates.
func FromFile(file string) (*Client, error) {
	c, err := fromFile(file)
	if err != nil {
		return nil, errs.New(errs.Invalid, "kubeconfig %q: %w", file, err)
	}
	return c, nil
}

func fromFile(file string) (*Client, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, errors.New("it is not the YAML of a kubeconfig") // the parser's text may show a token
	}
	cluster, user := "", ""
	for _, c := range k.Contexts {
		if c.Name == k.Current {
			cluster, user = c.Context.Cluster, c.Context.User
		}
	}
	dir := filepath.Dir(file)
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	base := ""
	for _, c := range k.Clusters {
		if c.Name != cluster {
			continue
		}
		base, conf.ServerName, conf.InsecureSkipVerify = c.Cluster.Server, c.Cluster.ServerName, c.Cluster.Insecure
		ca, err := data(c.Cluster.CAData, c.Cluster.CA, dir)
		if err != nil {
			return nil, err
		}
		if ca != nil {
			if conf.RootCAs, err = pool(ca); err != nil {
				return nil, err
			}
		}
	}
	if u, err := url.Parse(base); err != nil || u.Host == "" {
		return nil, errors.New("its current context names no server")
	}
	token := func() (string, error) { return "", nil }
	for _, u := range k.Users {
		if u.Name != user {
			continue
		}
		if u.User.Exec != nil || u.User.Provider != nil || u.User.Username != "" {
			return nil, errors.New("it logs in by a program, a provider or a password: only tokens and certificates are known")
		}
		switch {
		case u.User.TokenFile != "":
			token = func() (string, error) { return readToken(within(dir, u.User.TokenFile)) }
		case u.User.Token != "":
			token = func() (string, error) { return u.User.Token, nil }
		}
		cert, err := data(u.User.CertData, u.User.Cert, dir)
		if err != nil {
			return nil, err
		}
		key, err := data(u.User.KeyData, u.User.Key, dir)
		if err != nil {
			return nil, err
		}
		if cert != nil || key != nil {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return nil, err
			}
			conf.Certificates = []tls.Certificate{pair}
		}
	}
	return newClient(base, conf, token), nil
}

// data is what stands in the file itself, in base64, or in another one; nil if in neither.
func data(inline, file, dir string) ([]byte, error) {
	switch {
	case inline != "":
		raw, err := base64.StdEncoding.DecodeString(inline)
		if err != nil {
			return nil, errors.New("what should be base64 is none")
		}
		return raw, nil
	case file != "":
		return readFile(within(dir, file))
	}
	return nil, nil
}

// readFile reads what must be a regular file, of maxFile bytes at most: a device or a pipe may have no end.
func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file) // before it is opened: that of a pipe would wait
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "%q is no regular file", file)
	}
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, errs.New(errs.TooLarge, "%q has more than %d bytes", file, maxFile)
	}
	return text, err
}

// within takes a relative path as one beside the kubeconfig.
func within(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}
