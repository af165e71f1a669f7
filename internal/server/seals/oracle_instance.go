package seals

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
)

// An oracleInstance signs requests as the machine on which the server runs, an instance principal
// (https://docs.oracle.com/en-us/iaas/Content/Identity/Tasks/callingservicesfrominstances.htm): the machine's metadata service gives it a certificate with
// its key, and for these the service of identities gives a token to a key that is made for a session.
type oracleInstance struct {
	web      *http.Client
	metadata string // without a slash at its end
	identity string // the service of identities; "" is that of the machine's region
	session  rest.Session
	now      atomic.Pointer[oracleSigner] // of the session's token
}

// The addresses, and the variables by which Oracle's own programs take others.
const (
	oracleMetadata  = "http://169.254.169.254/opc/v2"
	metadataEnv     = "OCI_METADATA_BASE_URL"
	identityEnv     = "OCI_SDK_AUTH_CLIENT_REGION_URL"
	oracleDomain    = "oraclecloud.com"
	sessionKeyBits  = 2048
	sessionTokenFor = "ST$"
)

func newOracleInstance(web *http.Client, getenv func(string) string) (*oracleInstance, error) {
	i := &oracleInstance{web: web}
	var err error
	if i.metadata, err = rest.Base(cmp.Or(getenv(metadataEnv), oracleMetadata), metadataEnv); err != nil {
		return nil, err
	}
	if at := getenv(identityEnv); at != "" {
		if i.identity, err = rest.Base(at, identityEnv); err != nil {
			return nil, err
		}
	}
	i.session.Get = i.login
	return i, nil
}

// sign signs a request with the session's key.
func (i *oracleInstance) sign(r *http.Request, body []byte) error {
	for {
		token, err := i.session.Token(r.Context())
		if err != nil {
			return errs.New(errs.Unavailable, "the instance principal of this machine: %w", err)
		}
		if s := i.now.Load(); s.id == sessionTokenFor+token { // else another request has got a newer one meanwhile
			return s.sign(r, body)
		}
	}
}

// again reports whether it is worth asking again after a refusal: with another token.
func (i *oracleInstance) again(_ context.Context, status int) bool {
	return status == http.StatusUnauthorized && i.session.Drop()
}

// login gets a token. It is a rest.Session's Get.
func (i *oracleInstance) login(ctx context.Context, _ string) (string, time.Duration, error) {
	m, err := i.machine(ctx)
	if err != nil {
		return "", 0, err
	}
	key, err := rsa.GenerateKey(rand.Reader, sessionKeyBits)
	if err != nil {
		return "", 0, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", 0, err
	}
	in := struct {
		Certificate  []byte   `json:"certificate"`
		PublicKey    []byte   `json:"publicKey"`
		Intermediate [][]byte `json:"intermediateCertificates"`
	}{m.certificate, public, m.intermediate}
	var out struct {
		Token string `json:"token"`
	}
	service := rest.Client{Base: m.identity, HTTP: i.web, Prepare: m.signer.signAlone}
	if err := service.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/v1/x509", In: in, Out: &out}); err != nil {
		return "", 0, err
	}
	life, err := lifeOf(out.Token, time.Now())
	if err != nil {
		return "", 0, err
	}
	i.now.Store(&oracleSigner{sessionTokenFor + out.Token, key})
	return out.Token, life, nil
}

// A machine is what the metadata service tells of it.
type machine struct {
	identity     string // the service of identities
	certificate  []byte // DER
	intermediate [][]byte
	signer       *oracleSigner // as which it asks for tokens
}

func (i *oracleInstance) machine(ctx context.Context) (*machine, error) {
	m := &machine{identity: i.identity}
	if m.identity == "" {
		var region struct {
			ID     string `json:"regionIdentifier"`
			Domain string `json:"realmDomainComponent"`
		}
		text, err := i.ask(ctx, "/instance/regionInfo")
		if err != nil {
			return nil, err
		}
		if json.Unmarshal(text, &region) != nil || region.ID == "" {
			return nil, errors.New("the metadata service does not tell the region")
		}
		if m.identity, err = rest.Base("https://auth."+region.ID+"."+cmp.Or(region.Domain, oracleDomain), "region"); err != nil {
			return nil, err
		}
	}
	leaf, err := i.certificates(ctx, "/identity/cert.pem")
	if err != nil {
		return nil, err
	}
	if m.intermediate, err = i.certificates(ctx, "/identity/intermediate.pem"); err != nil {
		return nil, err
	}
	text, err := i.ask(ctx, "/identity/key.pem")
	if err != nil {
		return nil, err
	}
	key, err := rsaKey(text)
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("the machine's key: %w", err)
	}
	m.certificate = leaf[0]
	tenancy, err := tenancyOf(m.certificate)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(m.certificate) // by which the service names certificates
	m.signer = &oracleSigner{tenancy + "/fed-x509/" + strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"), key}
	return m, nil
}

// ask asks the metadata service.
func (i *oracleInstance) ask(ctx context.Context, path string) ([]byte, error) {
	base, err := url.Parse(i.metadata)
	if err != nil {
		return nil, err
	}
	var text []byte
	service := rest.Client{Base: i.metadata, HTTP: rest.Metadata(i.web, &http.Request{URL: base}), Retries: 1}
	err = service.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Raw: &text, Header: http.Header{"Authorization": {"Bearer Oracle"}}})
	return text, err
}

// certificates asks for one or more, in DER.
func (i *oracleInstance) certificates(ctx context.Context, path string) (out [][]byte, err error) {
	text, err := i.ask(ctx, path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		out = append(out, block.Bytes)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the metadata service gives no certificate as %s", path)
	}
	return out, nil
}

// tenancyOf is the tenancy that a machine's certificate names, in one of its subject's names.
func tenancyOf(certificate []byte) (string, error) {
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return "", errors.New("the machine's certificate cannot be read")
	}
	for _, name := range c.Subject.Names {
		text, _ := name.Value.(string)
		for _, prefix := range []string{"opc-tenant:", "opc-identity:"} {
			if id, ok := strings.CutPrefix(text, prefix); ok && id != "" {
				return id, nil
			}
		}
	}
	return "", errors.New("the machine's certificate names no tenancy")
}

// lifeOf is how long a token lives. It is the service's, which alone checks it: only its end is read.
func lifeOf(token string, now time.Time) (time.Duration, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.ContainsAny(token, "\"\r\n") {
		return 0, errors.New("the service of identities answered no token")
	}
	var claims struct {
		End int64 `json:"exp"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return 0, errors.New("the service of identities answered a token that cannot be read")
	}
	life := time.Unix(claims.End, 0).Sub(now)
	if life <= 0 {
		return 0, errors.New("the service of identities answered a token that has ended: does this machine's clock run right?")
	}
	return life, nil
}
