package sys

import (
	"context"

	"arca/internal/engine"
	"arca/internal/seal"
)

func (e *Engine) rekeyRoutes() []engine.Route {
	routes := []engine.Route{
		engine.Read("rekey/init", e.readRekey, engine.Always, engine.RootOnly, engine.Help("Return the progress of a rekey.")),
		engine.Write("rekey/init", e.startRekey, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Start to replace the key shares.")),
		engine.Delete("rekey/init", e.cancelRekey, engine.Always, engine.RootOnly, engine.Help("Cancel a rekey.")),
		engine.Write("rekey/update", e.updateRekey, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the present key shares.")),
		engine.Read("rekey/verify", e.readVerify, engine.Always, engine.RootOnly, engine.Help("Return the progress of a rekey's verification.")),
		engine.Write("rekey/verify", e.verifyRekey, engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the new key shares.")),
		engine.Delete("rekey/verify", e.restartVerify, engine.Always, engine.RootOnly, engine.Help("Begin the verification anew.")),

		engine.Read("rekey/backup", e.readBackup, engine.RootOnly, engine.TopLevel,
			engine.Help("Return the encrypted key shares that a rekey kept.")),
		engine.Delete("rekey/backup", e.deleteBackup, engine.RootOnly, engine.ActsOutside,
			engine.Help("Delete the encrypted key shares that a rekey kept.")),
		engine.Read("rekey/recovery-key-backup", e.readNoBackup, engine.RootOnly, engine.TopLevel,
			engine.Help("Return the encrypted recovery keys that a rekey kept.")),
		engine.Delete("rekey/recovery-key-backup", e.deleteNoBackup, engine.RootOnly,
			engine.Help("Delete the encrypted recovery keys that a rekey kept.")),
	}
	// Recovery keys belong to seals that open by themselves. Ours does not.
	for _, path := range []string{"init", "update", "verify"} {
		path = "rekey-recovery-key/" + path
		routes = append(routes, engine.Write(path, e.noRecovery, engine.Always, engine.RootOnly, engine.NoParamWarn))
		if path != "rekey-recovery-key/update" {
			routes = append(routes, engine.Read(path, e.noRecovery, engine.Always, engine.RootOnly, engine.NoParamWarn),
				engine.Delete(path, e.noRecovery, engine.Always, engine.RootOnly, engine.NoParamWarn))
		}
	}
	return routes
}

func (e *Engine) readRekey(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return plainOr(e.seal.RekeyStatus())
}

// RekeyRequest is the body of sys/rekey/init.
type RekeyRequest struct {
	SecretShares        int      `json:"secret_shares"`
	SecretThreshold     int      `json:"secret_threshold"`
	StoredShares        int      `json:"stored_shares"`
	PGPKeys             []string `json:"pgp_keys"`
	Backup              bool     `json:"backup"`
	RequireVerification bool     `json:"require_verification"`
}

func (e *Engine) startRekey(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req RekeyRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	return plainOr(e.seal.StartRekey(ctx, seal.RekeyParams{
		Shares: req.SecretShares, Threshold: req.SecretThreshold, PGPKeys: req.PGPKeys,
		Backup: req.Backup, Verify: req.RequireVerification,
	}))
}

func (e *Engine) cancelRekey(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.seal.CancelRekey(ctx)
}

// rekeyed is the answer when a rekey has new shares.
type rekeyed struct {
	Nonce    string `json:"nonce"`
	Complete bool   `json:"complete"`
	shares
	PGPFingerprints      []string `json:"pgp_fingerprints"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce,omitempty"`
}

func (e *Engine) updateRekey(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	share, nonce, err := in.share()
	if err != nil {
		return nil, err
	}
	done, err := e.seal.UpdateRekey(ctx, share, nonce)
	if err != nil {
		return nil, err
	}
	if done == nil {
		return plainOr(e.seal.RekeyStatus())
	}
	defer done.Wipe()
	return plain(rekeyed{
		Nonce: done.Nonce, Complete: true, shares: tell(done.Shares),
		PGPFingerprints: done.PGPFingerprints, Backup: done.Backup,
		VerificationRequired: done.VerificationNonce != "", VerificationNonce: done.VerificationNonce,
	})
}

func (e *Engine) readVerify(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return plainOr(e.seal.VerifyStatus())
}

func (e *Engine) restartVerify(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return plainOr(e.seal.RestartVerify(ctx))
}

func (e *Engine) verifyRekey(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	share, nonce, err := in.share()
	if err != nil {
		return nil, err
	}
	done, err := e.seal.VerifyRekey(ctx, share, nonce)
	if err != nil {
		return nil, err
	}
	if !done {
		return plainOr(e.seal.VerifyStatus())
	}
	return plain(struct {
		Nonce    string `json:"nonce"`
		Complete bool   `json:"complete"`
	}{nonce, true})
}

func (e *Engine) readBackup(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	b, err := e.seal.RekeyBackup(ctx)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: b}, nil
}

func (e *Engine) deleteBackup(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.seal.DeleteRekeyBackup(ctx)
}

func (e *Engine) readNoBackup(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return nil, seal.ErrNoBackup
}

func (e *Engine) deleteNoBackup(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return nil, nil
}

func (e *Engine) noRecovery(context.Context, *engine.Call, members) (*engine.Response, error) {
	if e.seal.Sealed() {
		return nil, seal.ErrSealed
	}
	return nil, seal.ErrNoRecovery
}
