package postgres

import (
	"strings"
	"testing"
)

// What is wrong with a connection URL is told without its secrets.
func TestCheckURL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"postgres://vault:hun%2Fter2@localhost:5432/vault?sslmode=bogus",
		"postgres://vault@localhost:5432/vault?password=hun%2Fter2&sslmode=bogus",
		"postgres://vault@localhost:5432/vault?sslpassword=hun/ter2&sslmode=bogus",
		"postgres://vault:hun/ter2@localhost:bad/vault",
		"host=localhost password=hun/ter2 sslmode=bogus",
		"host=localhost password='hun/ter2",
	} {
		err := CheckURL(text)
		if err == nil || strings.Contains(err.Error(), "ter2") || !strings.HasPrefix(err.Error(), "connection_url: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := CheckURL("postgres://vault:secret@localhost:5432/vault"); err != nil {
		t.Error(err)
	}
}

// Only what says that nothing was committed counts as refused.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"40001": true, "40P01": true, "23505": true, "25P02": true, "40003": false, "08007": false, "08P01": false, "57P01": false, "53100": false, "XX000": false, "": false,
	} {
		if got := rolledBack(code); got != want {
			t.Errorf("%s: %t", code, got)
		}
	}
}
