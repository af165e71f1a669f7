package engine

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/netip"
	"strconv"
	"time"

	"arca/internal/errs"
	"arca/internal/param"
)

// An Operation is what a request wants to do with its path.
type Operation uint8

// The operations of Vault's API. A door never sends OpCreate: the hall turns
// an OpUpdate into it when the route's existence check finds nothing.
const (
	OpRead Operation = iota + 1
	OpList
	OpCreate
	OpUpdate
	OpPatch
	OpDelete
	OpHelp
)

// String returns the operation's name as audit records and policies have it.
func (o Operation) String() string {
	switch o {
	case OpRead:
		return "read"
	case OpList:
		return "list"
	case OpCreate:
		return "create"
	case OpUpdate:
		return "update"
	case OpPatch:
		return "patch"
	case OpDelete:
		return "delete"
	case OpHelp:
		return "help"
	}
	return "operation " + strconv.Itoa(int(o))
}

// A Request is what a door makes of one call of a client. The hall and the
// engines do not change it, but for the fields that say so.
type Request struct {
	ID        string // UUID, made by the door
	Op        Operation
	Namespace string // from the header: canonical, "" is the root, else "a/b/"
	Path      string // without the door's prefix and without a leading slash
	Token     string // client token as it came; empty when there is none

	// Params are the members of the JSON body, or the query parameters of a
	// request that has no body by its method.
	Params param.Object
	// Raw is the body of a request whose Params could not hold it; only routes
	// that take raw input look at it.
	Raw []byte
	// Body is the body of a request that may be too large for memory; only the
	// route that takes it reads it, once.
	Body io.Reader

	WrapTTL    time.Duration // 0: no wrapping asked for
	WrapFormat string        // "" or "jwt"

	// Limit is filled by the hall where a quota bounds the client and says that it
	// shall be told.
	Limit *Limit
	// Counted is set by the hall once a rate limit has counted the request, which a door may hand in again.
	Counted bool

	// Open says that the door serves this path without a token, as its listener's
	// configuration has it: sys/metrics, sys/pprof, sys/in-flight-req.
	Open bool

	// Door says that a door makes the request of one of another protocol, whose client
	// it has looked at. Its routes are there for no others.
	Door bool

	// Runner is the type of the engine whose Runner sends the request; doors leave
	// it empty.
	Runner string
	// Payload is what a Runner has read from Raw, for its engine's own route; nil
	// when the request came by another node. One that is Described stands for Params.
	Payload any
	// ClearParams are the names of Params that audit devices show in clear, however
	// deep they lie.
	ClearParams []string

	Header map[string][]string // canonical names; for audit and passthrough
	Remote netip.AddrPort      // the client, behind trusted proxies if so configured
	TLS    *tls.ConnectionState
}

// A Described is a Payload whose Params are made when they are needed: where there is an audit
// device, or the request goes on to another node.
type Described interface {
	AuditParams() param.Object
}

// Describe makes Params, where that was left until now. It is for who serves the request.
func (r *Request) Describe() {
	if d, ok := r.Payload.(Described); ok && r.Params == nil {
		r.Params = d.AuditParams()
	}
}

type doorKey struct{}

// WithDoor marks what is done for a Request that has Door set, until it is one again at
// another node.
func WithDoor(ctx context.Context) context.Context { return context.WithValue(ctx, doorKey{}, true) }

// IsDoor reports whether ctx is marked by WithDoor.
func IsDoor(ctx context.Context) bool { return ctx.Value(doorKey{}) != nil }

// A Limit is how a client stands with a rate limit.
type Limit struct {
	Limit, Remaining int
	Reset            time.Duration // until it may ask afresh
}

// A Response is what a handler answers; nil is an answer without content.
type Response struct {
	// Data is the body: map[string]any, json.RawMessage (taken as it is), or a
	// value that encoding/json can encode. Nil is null.
	Data any
	// Auth makes the hall create a token (a login, or auth/token/create).
	Auth *Auth
	// Lease makes the hall register a lease for the secret in Data.
	Lease *Lease
	// LeaseDuration and Renewable are shown without a lease being kept (KV version 1).
	LeaseDuration time.Duration
	Renewable     bool
	LeaseID       string // of a lease that was renewed

	Warnings []string
	// Missing says that Data describes something that is gone: doors answer
	// 'not found' and give the body all the same (a deleted KV version).
	Missing bool
	// TopLevel repeats the members of Data beside "data" (sys/mounts and others).
	TopLevel bool
	// Bare says that the empty envelope is the answer, not silence.
	Bare bool
	// Accepted says that the work goes on behind the answer.
	Accepted bool
	// Status is the code of HTTP where the request itself names one
	// (partial_failure_response_code), or some of what it asked for failed; 0 is
	// that of success.
	Status int
	// Raw, when set, is the whole answer.
	Raw *Raw

	// Accessor names what Data holds to those who may not see it; it is shown
	// beside a wrapped answer.
	Accessor string

	// Wrap is filled by the hall when the answer was wrapped.
	Wrap *WrapInfo
	// MountType is filled by the hall.
	MountType string
}

// Raw is an answer without the API's envelope.
type Raw struct {
	ContentType string // empty: application/json
	Status      int    // of HTTP; 0 is 200. Only sys/health and raw routes set it
	Body        []byte
	// Stream, when set, is called with the connection to write to instead of
	// Body; the door flushes after each write. It ends with the request.
	Stream func(write func([]byte) error) error
	Header map[string]string
	// Record is what audit devices record in place of the answer, JSON; the members
	// that ClearRecord names are shown in clear.
	Record json.RawMessage
	// Recorder makes Record when it is needed.
	Recorder    Recorder
	ClearRecord []string
}

// A Recorder makes what audit devices record in place of an answer, JSON.
type Recorder interface {
	AuditRecord() json.RawMessage
}

// Describe makes Record, where that was left until now. It is for who serves the request.
func (r *Raw) Describe() {
	if r.Record == nil && r.Recorder != nil {
		r.Record = r.Recorder.AuditRecord()
	}
}

// An Undone is the error of a handler that ends its transaction without effect and
// has an answer all the same.
type Undone struct{ Response *Response }

// Error implements error.
func (*Undone) Error() string { return "the request was undone" }

// A Kept is the error of a handler whose request fails, and what it has written
// counts all the same: that a login is over, for example.
type Kept struct{ Err error }

// Error implements error.
func (k *Kept) Error() string { return k.Err.Error() }

// Unwrap returns the request's error.
func (k *Kept) Unwrap() error { return k.Err }

// TokenType tells how a token is kept.
type TokenType uint8

// The token types of Vault's API.
const (
	TokenDefault TokenType = iota // as the mount or role says
	TokenService
	TokenBatch
	TokenDefaultService // role: service unless the client asks for batch
	TokenDefaultBatch
)

// String returns the type's name in the API.
func (t TokenType) String() string {
	switch t {
	case TokenService:
		return "service"
	case TokenBatch:
		return "batch"
	case TokenDefaultService:
		return "default-service"
	case TokenDefaultBatch:
		return "default-batch"
	case TokenDefault:
	}
	return "default"
}

// Auth describes the token that a login asks for, and, once the hall has made
// it, that token.
type Auth struct {
	DisplayName      string
	Policies         []string // that the method grants; the hall adds default and identity's
	NoDefaultPolicy  bool
	Metadata         map[string]string
	InternalData     map[string]any // given back to the method on renewal
	TTL, MaxTTL      time.Duration  // 0: the mount's
	Period           time.Duration
	ExplicitMaxTTL   time.Duration
	NumUses          int
	Renewable        bool
	Type             TokenType
	BoundCIDRs       []netip.Prefix
	EntityID         string
	EntityCreated    bool // by this login; filled by the hall
	Alias            *Alias
	GroupAliases     []Alias
	Orphan           bool
	TokenPolicies    []string // as answered
	IdentityPolicies []string // as answered
	ClientToken      string   // filled by the hall
	Accessor         string   // filled by the hall
	LeaseDuration    time.Duration
	MFARequirement   any
	// Made says that Token was created by the handler itself (auth/token/create)
	// and the hall must not make one.
	Made bool
}

// An Alias ties a login to an identity.
type Alias struct {
	Name          string
	MountAccessor string
	MountType     string
	Metadata      map[string]string
}

// A Lease is the hold on a secret that an engine must one day revoke.
type Lease struct {
	ID        string // filled by the hall: the request's path and a random part
	Kind      string // the engine's name of the secret's type
	Internal  map[string]any
	TTL       time.Duration // 0: the mount's default
	MaxTTL    time.Duration // 0: the mount's
	Renewable bool
	Issued    time.Time
	Expires   time.Time
}

// WrapInfo describes a wrapping token.
type WrapInfo struct {
	Token           string
	Accessor        string
	TTL             time.Duration
	CreationTime    time.Time
	CreationPath    string
	WrappedAccessor string
}

// Encode returns Data as JSON.
func (r *Response) Encode() (json.RawMessage, error) {
	switch d := r.Data.(type) {
	case nil:
		return json.RawMessage("null"), nil
	case json.RawMessage:
		return d, nil
	default:
		return json.Marshal(d)
	}
}

// Warn adds a warning to the answer.
func (r *Response) Warn(text string) { r.Warnings = append(r.Warnings, text) }

// ErrWrapping is the refusal of what is no valid wrapping token.
var ErrWrapping = errs.New(errs.Invalid, "wrapping token is not valid or does not exist")
