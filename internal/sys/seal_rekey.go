package sys

import (
	"context"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/seal"
)

func (e *Engine) rekeyRoutes() []engine.Route {
	routes := []engine.Route{
		engine.Read("rekey/init", of(e, false, e.readRekey), engine.Always, engine.RootOnly, engine.Help("Return the progress of a rekey.")),
		engine.Write("rekey/init", of(e, false, e.startRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Start to replace the key shares.")),
		engine.Delete("rekey/init", of(e, false, e.cancelRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.Help("Cancel a rekey.")),
		engine.Write("rekey/update", of(e, false, e.updateRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the present key shares.")),
		engine.Read("rekey/verify", of(e, false, e.readVerify), engine.Always, engine.RootOnly, engine.Help("Return the progress of a rekey's verification.")),
		engine.Write("rekey/verify", of(e, false, e.verifyRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the new key shares.")),
		engine.Delete("rekey/verify", of(e, false, e.restartVerify), engine.Always, engine.Recorded, engine.RootOnly, engine.Help("Begin the verification anew.")),

		engine.Read("rekey/backup", e.readBackup, engine.RootOnly, engine.TopLevel,
			engine.Help("Return the encrypted key shares that a rekey kept.")),
		engine.Delete("rekey/backup", e.deleteBackup, engine.RootOnly, engine.ActsOutside,
			engine.Help("Delete the encrypted key shares that a rekey kept.")),
		engine.Read("rekey/recovery-key-backup", e.readRecoveryBackup, engine.RootOnly, engine.TopLevel,
			engine.Help("Return the encrypted recovery keys that a rekey kept.")),
		engine.Delete("rekey/recovery-key-backup", e.deleteRecoveryBackup, engine.RootOnly, engine.ActsOutside,
			engine.Help("Delete the encrypted recovery keys that a rekey kept.")),
	}
	// The same for recovery keys, of seals that open by themselves.
	routes = append(routes,
		engine.Read("rekey-recovery-key/init", of(e, true, e.readRekey), engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Return the progress of a rekey of the recovery keys.")),
		engine.Write("rekey-recovery-key/init", of(e, true, e.startRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Start to replace the recovery keys.")),
		engine.Delete("rekey-recovery-key/init", of(e, true, e.cancelRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Cancel a rekey of the recovery keys.")),
		engine.Write("rekey-recovery-key/update", of(e, true, e.updateRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the present recovery keys.")),
		engine.Read("rekey-recovery-key/verify", of(e, true, e.readVerify), engine.Always, engine.RootOnly, engine.NoParamWarn, engine.Help("Return the progress of a verification of recovery keys.")),
		engine.Write("rekey-recovery-key/verify", of(e, true, e.verifyRekey), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Give one of the new recovery keys.")),
		engine.Delete("rekey-recovery-key/verify", of(e, true, e.restartVerify), engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn, engine.Help("Begin the verification of recovery keys anew.")),
	)
	return routes
}

// errBarrierRekey is the refusal to replace unseal keys that there are none of.
var errBarrierRekey = errs.New(errs.Invalid, "rekeying of unseal keys is not supported: the seal opens by itself and has none; its recovery keys are rekeyed with -target=recovery")

// of serves h where the store's shares are recovery keys, or where they are not.
func of[In any](e *Engine, recovery bool, h engine.Handler[In]) engine.Handler[In] {
	return func(ctx context.Context, call *engine.Call, in In) (*engine.Response, error) {
		is, err := e.seal.Recovery(ctx)
		switch {
		case err != nil:
			return nil, err
		case is == recovery:
			return h(ctx, call, in)
		case e.seal.Sealed():
			return nil, seal.ErrSealed
		case recovery:
			return nil, seal.ErrNoRecovery
		}
		return nil, errBarrierRekey
	}
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
	Warnings             []string `json:"warnings,omitempty"`
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
	var warnings []string
	if done.Warning != "" {
		warnings = []string{done.Warning}
	}
	return plain(rekeyed{
		Warnings: warnings,
		Nonce:    done.Nonce, Complete: true, shares: tell(done.Shares),
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

// readRecoveryBackup and deleteRecoveryBackup are about the backup of recovery
// keys: there is none of them where there are none.
func (e *Engine) readRecoveryBackup(ctx context.Context, call *engine.Call, in engine.None) (*engine.Response, error) {
	if is, err := e.seal.Recovery(ctx); err != nil || !is {
		if err == nil {
			err = seal.ErrNoBackup
		}
		return nil, err
	}
	return e.readBackup(ctx, call, in)
}

func (e *Engine) deleteRecoveryBackup(ctx context.Context, call *engine.Call, in engine.None) (*engine.Response, error) {
	if is, err := e.seal.Recovery(ctx); err != nil || !is {
		return nil, err
	}
	return e.deleteBackup(ctx, call, in)
}
