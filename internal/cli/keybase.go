package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// keybaseKey fetches a user's public PGP key from keybase.io.
func keybaseKey(ctx context.Context, user string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address := "https://keybase.io/_/api/1.0/user/lookup.json?fields=public_keys&usernames=" + url.QueryEscape(user)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask keybase for %q: %w", user, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var answer struct {
		Them []struct {
			PublicKeys struct {
				Primary struct {
					Bundle string `json:"bundle"`
				} `json:"primary"`
			} `json:"public_keys"`
		} `json:"them"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("ask keybase for %q: %w", user, err)
	}
	if len(answer.Them) != 1 || answer.Them[0].PublicKeys.Primary.Bundle == "" {
		return "", fmt.Errorf("keybase knows no PGP key of %q", user)
	}
	return pgpKey([]byte(answer.Them[0].PublicKeys.Primary.Bundle))
}
