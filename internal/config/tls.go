package config

import (
	"crypto/tls"
	"fmt"
	"strconv"

	"arca/internal/config/source"
)

func quote(s string) string { return strconv.Quote(s) }

func tlsVersion(name string, unset uint16) (uint16, error) {
	switch name {
	case "":
		return unset, nil
	case "tls10":
		return tls.VersionTLS10, nil
	case "tls11":
		return tls.VersionTLS11, nil
	case "tls12":
		return tls.VersionTLS12, nil
	case "tls13":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf(`%q is none of "tls10", "tls11", "tls12" and "tls13"`, name)
}

// TLSVersions are the least and greatest version that the listener speaks.
func (l *Listener) TLSVersions() (least, most uint16) {
	least, _ = tlsVersion(l.TLSMinVersion, tls.VersionTLS12) // checked when read
	most, _ = tlsVersion(l.TLSMaxVersion, tls.VersionTLS13)
	return least, most
}

// TLSCiphers are the suites to offer for TLS up to 1.2; nil is Go's choice.
func (l *Listener) TLSCiphers() []uint16 {
	ids, _ := cipherSuites(l.TLSCipherSuites) // checked when read
	return ids
}

// cipherSuites finds suites by name. Those that Go calls insecure are taken
// when they are asked for by name, as old clients may need them.
func cipherSuites(names []string) ([]uint16, error) {
	if len(names) == 0 {
		return nil, nil
	}
	known, all := map[string]uint16{}, []string{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		known[s.Name] = s.ID
		all = append(all, s.Name)
	}
	var ids []uint16
	for _, n := range names {
		id, ok := known[n]
		if !ok {
			text := fmt.Sprintf("there is no suite %q", n)
			if near := source.Nearest(n, all); near != "" {
				text += "; did you mean " + near + "?"
			}
			return nil, fmt.Errorf("%s", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
