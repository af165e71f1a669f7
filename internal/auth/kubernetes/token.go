package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"arca/internal/errs"
)

const (
	maxTokenBytes = 64 << 10
	leeway        = time.Minute // between the clocks
	defaultIssuer = "kubernetes/serviceaccount"
)

// An account is a service account, as its token names it.
type account struct{ namespace, name, uid, secret string }

// user is the account's name among the users of its cluster.
func (a *account) user() string { return "system:serviceaccount:" + a.namespace + ":" + a.name }

// claims of a service account's token, in the older form and in that of today.
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	Expires   *float64 `json:"exp"`
	NotBefore *float64 `json:"nbf"`

	OldNamespace string `json:"kubernetes.io/serviceaccount/namespace"`
	OldName      string `json:"kubernetes.io/serviceaccount/service-account.name"`
	OldUID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	OldSecret    string `json:"kubernetes.io/serviceaccount/secret.name"`

	Kubernetes struct {
		Namespace string `json:"namespace"`
		Account   struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// audience is one text or a list.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// algorithms are those by which clusters sign.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA}
}

// payload returns the token's claims: after its signature was checked, where
// the configuration has keys, and else as they stand, for the cluster to judge.
func (c *config) payload(token string) ([]byte, error) {
	if len(token) > maxTokenBytes {
		return nil, errDenied
	}
	if len(c.PEMKeys) == 0 {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return nil, errDenied
		}
		raw, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return nil, errDenied
		}
		return raw, nil
	}
	signed, err := jose.ParseSigned(token, algorithms())
	if err != nil {
		return nil, errDenied
	}
	for _, text := range c.PEMKeys {
		key, err := publicKey(text)
		if err != nil {
			continue
		}
		if raw, err := signed.Verify(key); err == nil {
			return raw, nil
		}
	}
	return nil, errDenied
}

// read finds out whose token it is and for whom it was made, and checks what the
// role demands of it. What is left to ask of the cluster it returns.
func (c *config) read(token string, now time.Time, r *role) (*question, error) {
	raw, err := c.payload(token)
	if err != nil {
		return nil, err
	}
	var cl claims
	if json.Unmarshal(raw, &cl) != nil {
		return nil, errDenied
	}
	if err := c.check(&cl, now, r); err != nil {
		return nil, err
	}
	a := account{cl.OldNamespace, cl.OldName, cl.OldUID, cl.OldSecret}
	if a.namespace == "" && a.name == "" {
		a = account{cl.Kubernetes.Namespace, cl.Kubernetes.Account.Name, cl.Kubernetes.Account.UID, ""}
	}
	q := &question{token: token, payload: raw, audiences: cl.Audience, audience: r.Audience, account: a}
	if !matches(r.Namespaces, a.namespace) {
		q.selector = r.Selector
	}
	switch {
	case a.namespace == "" || a.name == "" || a.uid == "":
		return nil, errDenied
	case c.Published && cl.Subject != a.user():
		return nil, errDenied
	case q.selector == "" && !matches(r.Namespaces, a.namespace):
		return nil, errNamespace
	case !matches(r.Names, a.name):
		return nil, errs.New(errs.Denied, "service account name not authorized")
	}
	if r.Audience != "" {
		q.audiences = []string{r.Audience}
	}
	return q, nil
}

var errNamespace = errs.New(errs.Denied, "namespace not authorized")

// check holds the claims to times, issuer and audience.
func (c *config) check(cl *claims, now time.Time, r *role) error {
	seconds := float64(now.Unix())
	issuer := c.Issuer
	if issuer == "" {
		issuer = defaultIssuer
	}
	switch {
	// Nobody but the token itself says here until when it is good, and for whom.
	case c.Published && cl.Expires == nil:
		return errs.New(errs.Denied, "invalid expiration time (exp) claim: a token without one needs a review by the cluster")
	case c.Published && r.Audience == "":
		return errs.New(errs.Denied, "the role needs an audience, as the cluster's published keys are used")
	case !c.SkipIssuer && cl.Issuer != issuer:
		return errs.New(errs.Denied, "invalid issuer (iss) claim")
	case cl.Expires != nil && seconds > *cl.Expires+leeway.Seconds():
		return errs.New(errs.Denied, "invalid expiration time (exp) claim: token is expired")
	case cl.NotBefore != nil && seconds < *cl.NotBefore-leeway.Seconds():
		return errs.New(errs.Denied, "invalid not before (nbf) claim: token not yet valid")
	case r.Audience != "" && !slices.Contains(cl.Audience, r.Audience):
		return errs.New(errs.Denied, "invalid audience (aud) claim: audience claim does not match any expected audience")
	}
	return nil
}
