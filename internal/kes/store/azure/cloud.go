package azure

import (
	"strings"

	"arca/internal/errs"
)

// A Cloud is one of Azure's: the domain of its vaults, and who gives tokens for them.
type Cloud struct{ Domain, Authority string }

// CloudOf returns the cloud that an option "environment" names; "" is the public one.
func CloudOf(environment string) (Cloud, error) {
	switch strings.ToUpper(environment) {
	case "", "AZUREPUBLICCLOUD":
		return Cloud{"vault.azure.net", "https://login.microsoftonline.com"}, nil
	case "AZUREUSGOVERNMENTCLOUD":
		return Cloud{"vault.usgovcloudapi.net", "https://login.microsoftonline.us"}, nil
	case "AZURECHINACLOUD":
		return Cloud{"vault.azure.cn", "https://login.chinacloudapi.cn"}, nil
	}
	return Cloud{}, errs.New(errs.Invalid, "environment %q is none of AZUREPUBLICCLOUD, AZUREUSGOVERNMENTCLOUD, AZURECHINACLOUD", environment)
}
