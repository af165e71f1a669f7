// Package version says which versions this program is: its own, and the Vault
// version that it reports because clients choose features by it.
package version

// Arca is our own version. Set at link time with
// -ldflags "-X arca/internal/version.Arca=…" for releases.
var Arca = "0.1.0-dev"

// BuildDate is the RFC 3339 time of the build, set at link time; it falls back
// to the day of the release the source belongs to.
var BuildDate = "2026-11-22T00:00:00Z"

// Default is the Vault version reported unless the configuration says
// otherwise (compat_version). "+ent" switches on namespaces, KMIP, replication
// and quotas in Terraform and hvac.
const Default = "1.20.0+ent"

// Compat returns the Vault version to report. An empty configured value means
// Default.
func Compat(configured string) string {
	if configured != "" {
		return configured
	}
	return Default
}
