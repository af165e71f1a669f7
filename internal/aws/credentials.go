// Package aws signs requests to Amazon's services, with credentials from where its
// SDK would look for them.
package aws

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ErrUnreachable marks errors of asking for credentials that may pass.
var ErrUnreachable = errors.New("what gives AWS credentials cannot be reached")

// Keys are credentials of the configuration; all empty: from the environment.
type Keys struct{ Access, Secret, Token string }

// LogValue hides the keys from logs.
func (Keys) LogValue() slog.Value { return slog.StringValue("credentials") }

// credentials sign requests. They print nothing of themselves.
type credentials struct {
	accessKey, secretKey, token string
	until                       time.Time // the zero time: for ever
}

// LogValue hides the keys from logs.
func (*credentials) LogValue() slog.Value { return slog.StringValue("credentials") }

// A Source keeps credentials and gets new ones before they end: those of the
// configuration, of the environment, of the shared file, of a web identity (in
// Kubernetes), of the container, of the machine; the first that there are.
//
// It is safe for concurrent use.
type Source struct {
	fixed   *credentials
	region  string
	do      func(*http.Request) (*http.Response, error)
	mu      sync.Mutex
	current *credentials // guarded by mu
}

// early is how long before their end credentials are replaced.
const early = 5 * time.Minute

// NewSource makes a source of credentials for services in a region. do asks what gives credentials; it need not use a proxy.
func NewSource(fixed Keys, region string, do func(*http.Request) (*http.Response, error)) *Source {
	s := &Source{region: region, do: do}
	if fixed != (Keys{}) {
		s.fixed = &credentials{accessKey: fixed.Access, secretKey: fixed.Secret, token: fixed.Token}
	}
	return s
}

// Sign signs a request with a body of the SHA-256 sum given, for a service ("kms") in the source's region, as of now.
func (s *Source) Sign(r *http.Request, sum [sha256.Size]byte, service string) error {
	c, err := s.get(r.Context())
	if err != nil {
		return err
	}
	signV4(r, sum, c, s.region, service, time.Now())
	return nil
}

func (s *Source) get(ctx context.Context) (*credentials, error) {
	if s.fixed != nil {
		return s.fixed, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.current; c != nil && (c.until.IsZero() || time.Until(c.until) > early) {
		return c, nil
	}
	c, err := s.look(ctx)
	if err != nil {
		if old := s.current; old != nil && time.Now().Before(old.until) {
			return old, nil
		}
		return nil, fmt.Errorf("find AWS credentials: %w", err)
	}
	s.current = c
	return c, nil
}

func (s *Source) look(ctx context.Context) (*credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if a, k := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"); a != "" && k != "" {
		return &credentials{accessKey: a, secretKey: k, token: os.Getenv("AWS_SESSION_TOKEN")}, nil
	}
	if c := fromFile(); c != nil {
		return c, nil
	}
	if file, role := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), os.Getenv("AWS_ROLE_ARN"); file != "" && role != "" {
		return s.fromWebIdentity(ctx, file, role)
	}
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return s.fromURL(ctx, "http://169.254.170.2"+path, containerToken())
	}
	if full := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); full != "" {
		if err := checkContainerURL(full); err != nil {
			return nil, err
		}
		return s.fromURL(ctx, full, containerToken())
	}
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return nil, errors.New("there are none in the configuration, the environment or a file")
	}
	return s.fromMachine(ctx)
}

// fromFile reads the profile of the shared credentials file.
func fromFile() *credentials {
	path := os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		path = filepath.Join(home, ".aws", "credentials")
	}
	profile := os.Getenv("AWS_PROFILE")
	if profile == "" {
		profile = "default"
	}
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil
	}
	defer f.Close()
	c, inside := &credentials{}, false
	for lines := bufio.NewScanner(io.LimitReader(f, 1<<20)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !inside {
			continue
		}
		switch value = strings.TrimSpace(value); strings.ToLower(strings.TrimSpace(name)) {
		case "aws_access_key_id":
			c.accessKey = value
		case "aws_secret_access_key":
			c.secretKey = value
		case "aws_session_token":
			c.token = value
		}
	}
	if c.accessKey == "" || c.secretKey == "" {
		return nil
	}
	return c
}

// fromWebIdentity exchanges a token of Kubernetes for credentials of a role.
func (s *Source) fromWebIdentity(ctx context.Context, file, role string) (*credentials, error) {
	token, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	session := os.Getenv("AWS_ROLE_SESSION_NAME")
	if session == "" {
		session = "arca"
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
		"RoleSessionName": {session}, "WebIdentityToken": {strings.TrimSpace(string(token))},
	}
	endpoint := "https://sts." + s.region + ".amazonaws.com/"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body, err := s.ask(r)
	if err != nil {
		return nil, err
	}
	var out struct {
		Result struct {
			Credentials struct {
				AccessKeyID     string `xml:"AccessKeyId"`
				SecretAccessKey string
				SessionToken    string
				Expiration      time.Time
			}
		} `xml:"AssumeRoleWithWebIdentityResult"`
	}
	if xml.Unmarshal(body, &out) != nil || out.Result.Credentials.SecretAccessKey == "" {
		return nil, errors.New("what STS answered are no credentials")
	}
	c := out.Result.Credentials
	return &credentials{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration}, nil
}

func containerToken() http.Header {
	token := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		if text, err := os.ReadFile(file); err == nil { //nolint:gosec // the operator names it
			token = strings.TrimSpace(string(text))
		}
	}
	if token == "" {
		return nil
	}
	return http.Header{"Authorization": {token}}
}

// checkContainerURL keeps the token from other hosts: HTTPS, the loopback, or
// the addresses of ECS and EKS.
func checkContainerURL(full string) error {
	u, err := url.Parse(full)
	if err != nil {
		return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is no address")
	}
	ip := net.ParseIP(u.Hostname())
	known := u.Hostname() == "169.254.170.2" || u.Hostname() == "169.254.170.23" || u.Hostname() == "fd00:ec2::23"
	if u.Scheme == "https" || known || ip != nil && ip.IsLoopback() || u.Hostname() == "localhost" {
		return nil
	}
	return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither HTTPS nor of this machine")
}

// fromMachine asks the instance metadata service, version 2.
func (s *Source) fromMachine(ctx context.Context) (*credentials, error) {
	base := os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
	if base == "" {
		base = "http://169.254.169.254"
	}
	base = strings.TrimSuffix(base, "/")
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, base+"/latest/api/token", nil) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
	token, err := s.ask(r)
	if err != nil {
		return nil, fmt.Errorf("there are none in the configuration, the environment or a file, and the machine's are not to be had: %w", err)
	}
	const roles = "/latest/meta-data/iam/security-credentials/"
	header := http.Header{"X-Aws-Ec2-Metadata-Token": {string(token)}}
	if r, err = http.NewRequestWithContext(ctx, http.MethodGet, base+roles, nil); err != nil { //nolint:gosec // the operator's own environment names it
		return nil, err
	}
	r.Header = header
	list, err := s.ask(r)
	if err != nil {
		return nil, fmt.Errorf("the machine has no role: %w", err)
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(list)), "\n")
	return s.fromURL(ctx, base+roles+url.PathEscape(role), header)
}

// fromURL reads credentials as containers and machines are given them.
func (s *Source) fromURL(ctx context.Context, target string, header http.Header) (*credentials, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header.Clone()
	}
	body, err := s.ask(r)
	if err != nil {
		return nil, err
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}
	if json.Unmarshal(body, &out) != nil || out.SecretAccessKey == "" {
		return nil, errors.New("what was answered are no credentials")
	}
	return &credentials{out.AccessKeyID, out.SecretAccessKey, out.Token, out.Expiration}, nil
}

func (s *Source) ask(r *http.Request) ([]byte, error) {
	answer, err := s.do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", r.URL.Host, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}
