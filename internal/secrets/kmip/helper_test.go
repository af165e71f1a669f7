package kmip_test

import (
	"crypto/x509/pkix"
	"os"
	"testing"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func elsewhereName() pkix.Name { return pkix.Name{CommonName: "leaf"} }
