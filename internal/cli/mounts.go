package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// mountFlags are the settings that `secrets` and `auth` share, for enabling
// and tuning.
type mountFlags struct {
	description       *string
	defaultTTL, maxTL *time.Duration
	listing           *string
	auditRequest      *[]string
	auditResponse     *[]string
	passthrough       *[]string
	allowedResponse   *[]string
	allowedKeys       *[]string
	delegated         *[]string
	tokenType         *string
	pluginVersion     *string
	identityTokenKey  *string
	trimSlashes       *bool
	version           *int
	options           *map[string]string
	lockoutThreshold  *string
	lockoutDuration   *time.Duration
	lockoutReset      *time.Duration
	lockoutDisable    *bool
	forceNoCache      *bool
}

func declareMount(f *flagSet, auth bool) mountFlags {
	m := mountFlags{
		description:      f.String("description", "", "text", "What it is for."),
		defaultTTL:       f.Duration("default-lease-ttl", "Life of leases and tokens unless asked otherwise."),
		maxTL:            f.Duration("max-lease-ttl", "Longest life of leases and tokens."),
		listing:          f.String("listing-visibility", "", "value", "Show in the UI before login: unauth or hidden."),
		auditRequest:     f.List("audit-non-hmac-request-keys", "keys", "Request members that audit logs show in clear."),
		auditResponse:    f.List("audit-non-hmac-response-keys", "keys", "Response members that audit logs show in clear."),
		passthrough:      f.List("passthrough-request-headers", "names", "Request headers handed to the engine."),
		allowedResponse:  f.List("allowed-response-headers", "names", "Response headers the engine may set."),
		allowedKeys:      f.List("allowed-managed-keys", "names", "Managed keys the engine may use."),
		delegated:        f.List("delegated-auth-accessors", "accessors", "Auth methods the engine may delegate to."),
		pluginVersion:    f.String("plugin-version", "", "version", "Version of the plugin to run."),
		identityTokenKey: f.String("identity-token-key", "", "name", "Key that signs the plugin's identity tokens."),
		trimSlashes:      f.Bool("trim-request-trailing-slashes", false, "Cut slashes at the end of request paths."),
		version:          f.Int("version", 0, "Version of the engine (kv: 1 or 2)."),
		options:          f.Map("options", "Option of the engine; may be repeated."),
		forceNoCache:     f.Bool("force-no-cache", false, "Do not cache."),
	}
	if auth {
		m.tokenType = f.String("token-type", "", "type", "Type of the tokens it gives: service, batch, default-service, default-batch.")
		m.lockoutThreshold = f.String("user-lockout-threshold", "", "n", "Failed logins after which a user is locked out.")
		m.lockoutDuration = f.Duration("user-lockout-duration", "How long a lockout lasts.")
		m.lockoutReset = f.Duration("user-lockout-counter-reset-duration", "Time after which failures are forgotten.")
		m.lockoutDisable = f.Bool("user-lockout-disable", false, "Do not lock users out.")
	}
	return m
}

// optionMap is nil when neither -options nor -version was given.
func (m mountFlags) optionMap() map[string]string {
	out := *m.options
	if *m.version > 0 {
		if out == nil {
			out = map[string]string{}
		}
		out["version"] = strconv.Itoa(*m.version)
	}
	return out
}

// config is the body for enabling.
func (m mountFlags) config(c *call) api.MountConfigInput {
	conf := api.MountConfigInput{
		DefaultLeaseTTL: m.defaultTTL.String(), MaxLeaseTTL: m.maxTL.String(), ForceNoCache: *m.forceNoCache,
		ListingVisibility: *m.listing, PluginVersion: *m.pluginVersion, IdentityTokenKey: *m.identityTokenKey,
		AuditNonHMACRequestKeys: *m.auditRequest, AuditNonHMACResponseKeys: *m.auditResponse,
		PassthroughRequestHeaders: *m.passthrough, AllowedResponseHeaders: *m.allowedResponse,
		AllowedManagedKeys: *m.allowedKeys, DelegatedAuthAccessors: *m.delegated,
	}
	if c.flags.given("trim-request-trailing-slashes") {
		conf.TrimRequestTrailingSlashes = m.trimSlashes
	}
	if m.tokenType != nil {
		conf.TokenType = *m.tokenType
	}
	return conf
}

// tune is the body for tuning: what was given, and nothing else.
func (m mountFlags) tune(c *call) api.TuneMountConfigInput {
	given := c.flags.given
	var in api.TuneMountConfigInput
	str := func(name string, from *string, to **string) {
		if from != nil && given(name) {
			*to = from
		}
	}
	list := func(name string, from *[]string, to **[]string) {
		if given(name) {
			*to = from
		}
	}
	ttl := func(name string, from *time.Duration, to **string) {
		if given(name) {
			s := from.String()
			*to = &s
		}
	}
	if options := m.optionMap(); options != nil {
		in.Options = &options
	}
	str("description", m.description, &in.Description)
	str("listing-visibility", m.listing, &in.ListingVisibility)
	str("token-type", m.tokenType, &in.TokenType)
	str("plugin-version", m.pluginVersion, &in.PluginVersion)
	str("identity-token-key", m.identityTokenKey, &in.IdentityTokenKey)
	list("audit-non-hmac-request-keys", m.auditRequest, &in.AuditNonHMACRequestKeys)
	list("audit-non-hmac-response-keys", m.auditResponse, &in.AuditNonHMACResponseKeys)
	list("passthrough-request-headers", m.passthrough, &in.PassthroughRequestHeaders)
	list("allowed-response-headers", m.allowedResponse, &in.AllowedResponseHeaders)
	list("allowed-managed-keys", m.allowedKeys, &in.AllowedManagedKeys)
	list("delegated-auth-accessors", m.delegated, &in.DelegatedAuthAccessors)
	ttl("default-lease-ttl", m.defaultTTL, &in.DefaultLeaseTTL)
	ttl("max-lease-ttl", m.maxTL, &in.MaxLeaseTTL)
	if given("trim-request-trailing-slashes") {
		in.TrimRequestTrailingSlashes = m.trimSlashes
	}
	if given("force-no-cache") {
		in.ForceNoCache = m.forceNoCache
	}
	in.UserLockoutConfig = m.lockout(c)
	return in
}

func (m mountFlags) lockout(c *call) *api.TuneUserLockoutConfigInput {
	if m.lockoutDisable == nil {
		return nil
	}
	var in api.TuneUserLockoutConfigInput
	any := false
	set := func(name string, to **string, value string) {
		if c.flags.given(name) {
			*to, any = &value, true
		}
	}
	set("user-lockout-threshold", &in.LockoutThreshold, *m.lockoutThreshold)
	set("user-lockout-duration", &in.LockoutDuration, m.lockoutDuration.String())
	set("user-lockout-counter-reset-duration", &in.LockoutCounterResetDuration, m.lockoutReset.String())
	if c.flags.given("user-lockout-disable") {
		in.DisableLockout, any = m.lockoutDisable, true
	}
	if !any {
		return nil
	}
	return &in
}

// waitForMove polls until a move started by the server has ended.
func (c *call) waitForMove(client *api.Client, id string) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		status, err := client.Sys().RemountStatusWithContext(c.ctx, id)
		if err != nil {
			return err
		}
		if info := status.MigrationInfo; info != nil {
			switch strings.ToLower(info.MigrationStatus) {
			case "success":
				return nil
			case "failure":
				return fmt.Errorf("failure encountered migrating mount")
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return c.ctx.Err()
		case <-timer.C:
		}
	}
}

// move renames a mount and waits for the end.
func (c *call) move(what string, finished func(from, to string) string) error {
	if err := c.exactly(2); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	from, to := mountPath(c.args[0]), mountPath(c.args[1])
	started, err := client.Sys().StartRemountWithContext(c.ctx, from, to)
	if err != nil {
		return failf("Error moving %s %s to %s: %w", what, from, to, err)
	}
	c.printf("Started moving %s %s to %s, with migration ID %s\n", what, from, to, started.MigrationID)
	if err := c.waitForMove(client, started.MigrationID); err != nil {
		return failf("Error moving %s %s to %s: %w", what, from, to, err)
	}
	c.printf("%s\n", finished(from, to))
	return nil
}
