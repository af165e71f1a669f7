package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"arca/internal/errs"
	"arca/internal/kes"
	"arca/internal/kes/store"
	"arca/internal/kes/store/aws"
	"arca/internal/kes/store/azure"
	"arca/internal/kes/store/entrust"
	"arca/internal/kes/store/fortanix"
	"arca/internal/kes/store/fs"
	"arca/internal/kes/store/gcp"
	"arca/internal/kes/store/gemalto"
	"arca/internal/kes/store/generic"
	"arca/internal/kes/store/rest"
	"arca/internal/kes/store/vault"
)

// A KeyStore is the section of that name: exactly one of its stores is set.
type KeyStore struct {
	FS *struct {
		Path string `yaml:"path"`
	} `yaml:"fs"`
	Vault *vaultSection `yaml:"vault"`
	AWS   *struct {
		SecretsManager *awsSection `yaml:"secretsmanager"`
	} `yaml:"aws"`
	GCP *struct {
		SecretManager *gcpSection `yaml:"secretmanager"`
	} `yaml:"gcp"`
	Azure *struct {
		KeyVault *azureSection `yaml:"keyvault"`
	} `yaml:"azure"`
	Gemalto *struct {
		KeySecure *gemaltoSection `yaml:"keysecure"`
	} `yaml:"gemalto"`
	Fortanix *struct {
		SDKMS *fortanixSection `yaml:"sdkms"`
	} `yaml:"fortanix"`
	Entrust *struct {
		KeyControl *entrustSection `yaml:"keycontrol"`
	} `yaml:"entrust"`
	Generic *genericSection `yaml:"generic"`
	KES     *kesSection     `yaml:"kes"`
}

// kesSection is another KES server.
type kesSection struct {
	Endpoint endpoints  `yaml:"endpoint"`
	APIKey   string     `yaml:"api_key"`
	Enclave  string     `yaml:"enclave"` // until 2023
	TLS      tlsSection `yaml:"tls"`
}

// endpoints is one address or a list.
type endpoints []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (e *endpoints) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*e = nil
		for _, one := range strings.Split(n.Value, ",") {
			if one = strings.TrimSpace(one); one != "" {
				*e = append(*e, one)
			}
		}
		return nil
	}
	return n.Decode((*[]string)(e))
}

type tlsSection struct {
	Key  string `yaml:"key"`
	Cert string `yaml:"cert"`
	CA   string `yaml:"ca"`
}

type vaultSection struct {
	Endpoint  string `yaml:"endpoint"`
	Engine    string `yaml:"engine"`
	Version   string `yaml:"version"`
	Namespace string `yaml:"namespace"`
	Prefix    string `yaml:"prefix"`
	AppRole   *struct {
		Engine    string   `yaml:"engine"`
		Namespace string   `yaml:"namespace"`
		ID        string   `yaml:"id"`
		Secret    string   `yaml:"secret"`
		Retry     duration `yaml:"retry"` // until 2023
	} `yaml:"approle"`
	Kubernetes *struct {
		Engine    string   `yaml:"engine"`
		Namespace string   `yaml:"namespace"`
		Role      string   `yaml:"role"`
		JWT       string   `yaml:"jwt"`
		Retry     duration `yaml:"retry"` // until 2023
	} `yaml:"kubernetes"`
	Transit *struct {
		Engine string `yaml:"engine"`
		Key    string `yaml:"key"`
	} `yaml:"transit"`
	TLS    tlsSection `yaml:"tls"`
	Status struct {
		Ping duration `yaml:"ping"`
	} `yaml:"status"`
}

type awsSection struct {
	Endpoint    string `yaml:"endpoint"`
	Region      string `yaml:"region"`
	KMSKey      string `yaml:"kmskey"`
	Credentials struct {
		AccessKey    string `yaml:"accesskey"`
		SecretKey    string `yaml:"secretkey"`
		SessionToken string `yaml:"token"`
	} `yaml:"credentials"`
}

type gcpSection struct {
	ProjectID   string   `yaml:"project_id"`
	Endpoint    string   `yaml:"endpoint"`
	Scopes      []string `yaml:"scopes"`
	Credentials struct {
		Email string `yaml:"client_email"`
		ID    string `yaml:"client_id"`
		KeyID string `yaml:"private_key_id"`
		Key   string `yaml:"private_key"`
	} `yaml:"credentials"`
}

type azureSection struct {
	Endpoint    string `yaml:"endpoint"`
	Credentials *struct {
		TenantID     string `yaml:"tenant_id"`
		ClientID     string `yaml:"client_id"`
		ClientSecret string `yaml:"client_secret"`
	} `yaml:"credentials"`
	Managed *struct {
		ClientID string `yaml:"client_id"`
	} `yaml:"managed_identity"`
}

type gemaltoSection struct {
	Endpoint    string `yaml:"endpoint"`
	Credentials struct {
		Token  string   `yaml:"token"`
		Domain string   `yaml:"domain"`
		Retry  duration `yaml:"retry"`
	} `yaml:"credentials"`
	TLS tlsSection `yaml:"tls"`
}

type fortanixSection struct {
	Endpoint    string `yaml:"endpoint"`
	GroupID     string `yaml:"group_id"`
	Credentials struct {
		Key string `yaml:"key"`
	} `yaml:"credentials"`
	TLS tlsSection `yaml:"tls"`
}

type entrustSection struct {
	Endpoint    string `yaml:"endpoint"`
	VaultID     string `yaml:"vault_id"`
	BoxID       string `yaml:"box_id"`
	Credentials struct {
		Username string `yaml:"username"`
		Password string `yaml:"password"`
	} `yaml:"credentials"`
	TLS tlsSection `yaml:"tls"`
}

type genericSection struct {
	Endpoint string     `yaml:"endpoint"`
	TLS      tlsSection `yaml:"tls"`
}

// names returns which stores are set.
func (k *KeyStore) names() []string {
	var out []string
	for _, s := range []struct {
		name string
		set  bool
	}{
		{"fs", k.FS != nil},
		{"vault", k.Vault != nil},
		{"aws.secretsmanager", k.AWS != nil && k.AWS.SecretsManager != nil},
		{"gcp.secretmanager", k.GCP != nil && k.GCP.SecretManager != nil},
		{"azure.keyvault", k.Azure != nil && k.Azure.KeyVault != nil},
		{"gemalto.keysecure", k.Gemalto != nil && k.Gemalto.KeySecure != nil},
		{"fortanix.sdkms", k.Fortanix != nil && k.Fortanix.SDKMS != nil},
		{"entrust.keycontrol", k.Entrust != nil && k.Entrust.KeyControl != nil},
		{"generic", k.Generic != nil},
		{"kes", k.KES != nil},
	} {
		if s.set {
			out = append(out, s.name)
		}
	}
	return out
}

func (k *KeyStore) isEmpty() bool { return len(k.names()) == 0 }

// check refuses none and several, and what is wrong without asking anybody.
func (k *KeyStore) check() error {
	switch names := k.names(); {
	case len(names) == 0:
		return errors.New("keystore is missing: say where the keys are kept (fs, vault, aws, …)")
	case len(names) > 1:
		return fmt.Errorf("keystore: %s are set; exactly one keeps the keys", strings.Join(names, " and "))
	}
	switch {
	case k.FS != nil && k.FS.Path == "":
		return errors.New("keystore.fs.path is missing: name the folder for the keys")
	case k.KES != nil && len(k.KES.Endpoint) == 0:
		return errors.New("keystore.kes.endpoint is missing: the address of the other KES server, such as https://127.0.0.1:7373")
	case k.KES != nil && k.KES.Enclave != "" && k.KES.Enclave != "default":
		return errors.New("keystore.kes.enclave: no KES has enclaves any more; leave it out")
	case k.Azure != nil && k.Azure.KeyVault != nil && k.Azure.KeyVault.Credentials != nil && k.Azure.KeyVault.Managed != nil:
		return errors.New("keystore.azure.keyvault: credentials and managed_identity are both set; one of them logs in")
	case k.GCP != nil && k.GCP.SecretManager != nil && k.GCP.SecretManager.ProjectID == "":
		return errors.New("keystore.gcp.secretmanager.project_id is missing")
	case k.AWS != nil && k.AWS.SecretsManager != nil && k.AWS.SecretsManager.Region == "":
		return errors.New("keystore.aws.secretsmanager.region is missing, such as us-east-2")
	}
	return nil
}

// Open opens the store. What cannot be reached, or refuses the login, is an
// error.
func (k *KeyStore) Open(ctx context.Context, log *slog.Logger) (store.Store, error) {
	switch {
	case k.KES != nil:
		return nil, errs.New(errs.Invalid, "keystore.kes: keys do not leave a KES server: name the key store that the other one has")
	case k.FS != nil:
		return fs.Open(ctx, k.FS.Path, log)
	case k.Vault != nil:
		return vault.Open(ctx, k.Vault.config(log))
	case k.AWS != nil && k.AWS.SecretsManager != nil:
		s := k.AWS.SecretsManager
		return aws.Open(ctx, aws.Config{
			Endpoint: s.Endpoint, Region: s.Region, KMSKey: s.KMSKey,
			AccessKey: s.Credentials.AccessKey, SecretKey: s.Credentials.SecretKey, Token: s.Credentials.SessionToken,
		})
	}
	return k.openOther(ctx)
}

// OpenReadOnly opens the store to copy keys from it. Of a folder, it leaves alone what
// a server would recover.
func (k *KeyStore) OpenReadOnly(ctx context.Context, log *slog.Logger) (store.Store, error) {
	if k.KES == nil && k.FS != nil {
		return fs.OpenReadOnly(k.FS.Path)
	}
	return k.Open(ctx, log)
}

// IsSame reports whether two sections name one store in the same way; folders may have
// several names.
func (k *KeyStore) IsSame(other *KeyStore) bool {
	if k.FS != nil && other.FS != nil {
		a, errA := os.Stat(k.FS.Path)
		b, errB := os.Stat(other.FS.Path)
		return errA == nil && errB == nil && os.SameFile(a, b)
	}
	return reflect.DeepEqual(k, other)
}

// Upstream returns another KES server that has the keys; false when a store has
// them, which Open opens.
func (k *KeyStore) Upstream(log *slog.Logger) (kes.UpstreamConfig, bool) {
	if k.KES == nil {
		return kes.UpstreamConfig{}, false
	}
	return kes.UpstreamConfig{Endpoints: k.KES.Endpoint, APIKey: k.KES.APIKey, TLS: k.KES.TLS.config(), Log: log}, true
}

func (t tlsSection) config() rest.TLS { return rest.TLS{CA: t.CA, Cert: t.Cert, Key: t.Key} }

func (k *KeyStore) openOther(ctx context.Context) (store.Store, error) {
	switch {
	case k.GCP != nil && k.GCP.SecretManager != nil:
		s := k.GCP.SecretManager
		c := s.Credentials
		return gcp.Open(ctx, gcp.Config{
			ProjectID: s.ProjectID, Endpoint: s.Endpoint, Scopes: s.Scopes, Email: c.Email, ID: c.ID, KeyID: c.KeyID, Key: c.Key,
		})
	case k.Azure != nil && k.Azure.KeyVault != nil:
		s := k.Azure.KeyVault
		c := azure.Config{Endpoint: s.Endpoint}
		if s.Credentials != nil {
			c.TenantID, c.ClientID, c.ClientSecret = s.Credentials.TenantID, s.Credentials.ClientID, s.Credentials.ClientSecret
		}
		if s.Managed != nil {
			c.Managed, c.ManagedID = true, s.Managed.ClientID
		}
		return azure.Open(ctx, c)
	case k.Gemalto != nil && k.Gemalto.KeySecure != nil:
		s := k.Gemalto.KeySecure
		return gemalto.Open(ctx, gemalto.Config{Endpoint: s.Endpoint, Token: s.Credentials.Token, Domain: s.Credentials.Domain, TLS: s.TLS.config()})
	case k.Fortanix != nil && k.Fortanix.SDKMS != nil:
		s := k.Fortanix.SDKMS
		return fortanix.Open(ctx, fortanix.Config{Endpoint: s.Endpoint, GroupID: s.GroupID, Key: s.Credentials.Key, TLS: s.TLS.config()})
	case k.Entrust != nil && k.Entrust.KeyControl != nil:
		s := k.Entrust.KeyControl
		return entrust.Open(ctx, entrust.Config{
			Endpoint: s.Endpoint, VaultID: s.VaultID, BoxID: s.BoxID,
			Username: s.Credentials.Username, Password: s.Credentials.Password, TLS: s.TLS.config(),
		})
	case k.Generic != nil:
		return generic.Open(ctx, generic.Config{Endpoint: k.Generic.Endpoint, TLS: k.Generic.TLS.config()})
	}
	return nil, errors.New("keystore is missing")
}

func (s *vaultSection) config(log *slog.Logger) vault.Config {
	c := vault.Config{
		Endpoint: s.Endpoint, Engine: s.Engine, Version: s.Version, Namespace: s.Namespace, Prefix: s.Prefix,
		TLS: s.TLS.config(), Ping: time.Duration(s.Status.Ping), Log: log,
	}
	if a := s.AppRole; a != nil {
		c.AppRole = &vault.AppRole{Engine: a.Engine, Namespace: a.Namespace, ID: a.ID, Secret: a.Secret}
	}
	if k := s.Kubernetes; k != nil {
		c.Kubernetes = &vault.Kubernetes{Engine: k.Engine, Namespace: k.Namespace, Role: k.Role, JWT: k.JWT}
	}
	if t := s.Transit; t != nil {
		c.Transit = &vault.Transit{Engine: t.Engine, Key: t.Key}
	}
	return c
}
