package sys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"arca/internal/barrier"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/seal"
)

// sealRoutes declares what concerns the seal: sys/init, sys/unseal,
// sys/seal-status, sys/rekey, sys/generate-root, sys/rotate, sys/key-status.
//
// Most are served sealed and without a token: the key shares themselves are the
// proof. Like Vault these read their body with encoding/json and not with
// package param (a number in quotes is refused), and answer without the
// envelope.
func (e *Engine) sealRoutes() []engine.Route {
	return slices.Concat([]engine.Route{
		engine.Read("init", e.readInit, engine.Always, engine.RootOnly, engine.Help("Return whether the server is initialized.")),
		engine.Write("init", e.init, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Initialize the server.")),
		engine.Read("seal-backend-status", e.sealBackends, engine.Always, engine.Help("Return the state of each seal that opens by itself.")),
		engine.Read("seal-status", e.sealStatus, engine.Always, engine.Help("Return the state of the seal.")),
		engine.Write("unseal", e.unseal, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one share of the unseal key.")),
	}, e.rekeyRoutes(), e.rootRoutes(), e.keyRoutes())
}

// members are a body's members, undecoded.
type members struct {
	All param.Object `api:"-,rest"`
}

// decode fills a struct from the members, with the errors of encoding/json
// that Vault's clients see.
func (in members) decode(into any) error {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range in.All {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.Key)
		if err != nil {
			return err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.Value)
	}
	b.WriteByte('}')
	defer clear(b.Bytes()) // key shares
	if err := json.Unmarshal(b.Bytes(), into); err != nil {
		return errs.New(errs.Invalid, "failed to decode JSON input: %w", err)
	}
	return nil
}

// plain answers v as JSON without an envelope.
func plain(v any) (*engine.Response, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Raw: &engine.Raw{Body: append(b, '\n')}}, nil
}

// plainOr is plain unless there is an error.
func plainOr[T any](v T, err error) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	return plain(v)
}

func (e *Engine) readInit(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	initialized, err := e.seal.Initialised(ctx)
	return plainOr(struct {
		Initialized bool `json:"initialized"`
	}{initialized}, err)
}

// InitRequest is the body of sys/init. Its name and those of the other bodies
// are seen in errors.
type InitRequest struct {
	SecretShares      int      `json:"secret_shares"`
	SecretThreshold   int      `json:"secret_threshold"`
	StoredShares      int      `json:"stored_shares"`
	PGPKeys           []string `json:"pgp_keys"`
	RecoveryShares    int      `json:"recovery_shares"`
	RecoveryThreshold int      `json:"recovery_threshold"`
	RecoveryPGPKeys   []string `json:"recovery_pgp_keys"`
	RootTokenPGPKey   string   `json:"root_token_pgp_key"`
}

// check refuses parameters that are for seals of the other sort: those that have
// recovery keys, or key shares.
func (r *InitRequest) check(typ string, recovery bool) error {
	var names []byte
	add := func(given bool, name string) {
		if given {
			if names != nil {
				names = append(names, ',')
			}
			names = append(names, name...)
		}
	}
	if recovery {
		add(r.SecretShares != 0, "secret_shares")
		add(r.SecretThreshold != 0, "secret_threshold")
		add(len(r.PGPKeys) > 0, "pgp_keys")
	} else {
		add(r.RecoveryShares != 0, "recovery_shares")
		add(r.RecoveryThreshold != 0, "recovery_threshold")
		add(len(r.RecoveryPGPKeys) > 0, "recovery_pgp_keys")
	}
	switch {
	case names != nil:
		return errs.New(errs.Invalid, "parameters %s not applicable to seal type %s", names, typ)
	case r.StoredShares < 0:
		return errs.New(errs.Invalid, "invalid seal configuration: stored keys cannot be negative")
	}
	return nil
}

func (e *Engine) init(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req InitRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	auto := e.seal.Auto()
	if err := req.check(e.seal.Type(), auto); err != nil {
		return nil, err
	}
	p := seal.InitParams{
		Shares: req.SecretShares, Threshold: req.SecretThreshold,
		PGPKeys: req.PGPKeys, RootTokenPGPKey: req.RootTokenPGPKey,
	}
	if auto {
		p.Shares, p.Threshold, p.PGPKeys = req.RecoveryShares, req.RecoveryThreshold, req.RecoveryPGPKeys
	}
	res, err := e.seal.Init(ctx, p)
	if err != nil {
		return nil, err
	}
	defer res.Wipe()
	if auto {
		// The keys are told in any case: a seal that fails now is tried again.
		_ = e.seal.OpenByItself(ctx) // logged there
		recovery := tell(res.Shares)
		return plain(struct {
			shares
			Recovery    []string `json:"recovery_keys"`
			RecoveryB64 []string `json:"recovery_keys_base64"`
			RootToken   string   `json:"root_token"`
		}{shares{[]string{}, []string{}}, recovery.Keys, recovery.KeysBase64, string(res.RootToken)})
	}
	return plain(struct {
		shares
		RootToken string `json:"root_token"`
	}{tell(res.Shares), string(res.RootToken)})
}

// shares are key shares as they are told, in both forms.
type shares struct {
	Keys       []string `json:"keys"`
	KeysBase64 []string `json:"keys_base64"`
}

func tell(keys []barrier.Key) shares {
	var s shares
	for _, k := range keys {
		s.Keys = append(s.Keys, hex.EncodeToString(k))
		s.KeysBase64 = append(s.KeysBase64, base64.StdEncoding.EncodeToString(k))
	}
	return s
}

func (e *Engine) sealStatus(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	st, err := e.seal.Status(ctx)
	if e.core == nil { // the routes of the seal alone
		return plainOr(st, err)
	}
	switch a := e.core.Active(); {
	case a == nil && !st.Sealed: // it is being sealed or opened: nothing is served
		st.Sealed, st.ClusterName, st.ClusterID = true, "", ""
	case a != nil && !a.Leads():
		st.RemovedFromCluster = e.core.Cluster().Removed()
	}
	return plainOr(st, err)
}

// shutTime is how long a share waits for the end of a seal that is under way: that takes five seconds after the restore of another cluster's snapshot.
const shutTime = 15 * time.Second

// awaitShut has a seal that is under way come to its end. A share that came before would be taken for one that is not needed, and the node stay sealed.
func (e *Engine) awaitShut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for e.core != nil && e.core.Sealed() && !e.seal.Sealed() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "the node is being sealed: try again in a moment")
		}
	}
	return nil
}

func (e *Engine) sealBackends(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return plainOr(e.seal.Backends(ctx))
}

// UnsealRequest is the body of sys/unseal.
type UnsealRequest struct {
	Key     string `json:"key"`
	Reset   bool   `json:"reset"`
	Migrate bool   `json:"migrate"`
	// Recovery says that the key is a recovery key, which opens a store whose seals
	// are lost.
	Recovery bool `json:"recovery"`
}

func (e *Engine) unseal(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req UnsealRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	if req.Reset {
		return plainOr(e.seal.ResetUnseal(ctx))
	}
	if req.Key == "" {
		return nil, errs.New(errs.Invalid, "'key' must be specified in request body as JSON, or 'reset' set to true")
	}
	share, err := seal.ParseShare(req.Key)
	if err != nil {
		return nil, err
	}
	if err := e.awaitShut(ctx); err != nil {
		return nil, err
	}
	return plainOr(e.seal.UnsealFor(ctx, share, seal.UnsealFor{Migrate: req.Migrate, Recovery: req.Recovery}))
}

// updateRequest is the body with which a share is given to an operation.
type updateRequest struct {
	Key   string `json:"key"`
	Nonce string `json:"nonce"`
}

// share reads a body that gives a share to an operation.
func (in members) share() (share barrier.Key, nonce string, err error) {
	var req updateRequest
	if err := in.decode(&req); err != nil {
		return nil, "", err
	}
	if req.Key == "" {
		return nil, "", errs.New(errs.Invalid, "'key' must be specified in request body as JSON")
	}
	share, err = seal.ParseShare(req.Key)
	return share, req.Nonce, err
}
