package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// Defaults of a login through the browser, as Vault's command line has them.
const (
	oidcListen  = "localhost"
	oidcPort    = "8250"
	oidcPath    = "/oidc/callback"
	oidcTime    = 10 * time.Minute
	oidcHeaders = 64 << 10 // bytes of the provider's answer
)

// S3-50. The provider sends the browser back to a listener on this machine, which
// passes what comes on to the server.
func loginOIDC(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	host := firstOf(params["callbackhost"], oidcListen)
	listen := firstOf(params["listenaddress"], oidcListen)
	port := firstOf(params["port"], oidcPort)
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, usagef("Error parsing configuration: port %q is not a number from 0 to 65535", port)
	}
	l, err := (&net.ListenConfig{}).Listen(c.ctx, "tcp", net.JoinHostPort(listen, port))
	if err != nil {
		return nil, fmt.Errorf("listen for the answer of the login page: %w", err)
	}
	defer l.Close()
	if port == "0" {
		_, port, _ = net.SplitHostPort(l.Addr().String())
	}
	scheme := firstOf(params["callbackmethod"], "http")
	redirect := scheme + "://" + net.JoinHostPort(host, firstOf(params["callbackport"], port)) + oidcPath
	nonce, err := clientNonce()
	if err != nil {
		return nil, err
	}
	page, err := authURL(c, client, params, redirect, nonce)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, oidcTime)
	defer cancel()
	got := make(chan oidcAnswer, 1)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: oidcHeaders,
		Handler: oidcHandler(ctx, client, params["mount"], nonce, got),
	}
	go func() { _ = server.Serve(l) }() // ends with the listener
	defer func() {
		// The browser gets its page before the listener goes.
		last, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(last) // what is left ends with the process
	}()
	if params["skip_browser"] != "true" {
		c.errorf("Complete the login via your OIDC provider. Launching browser to:\n\n    %s\n\n", page)
		if err := openBrowser(ctx, page); err != nil {
			c.errorf("Error attempting to automatically open browser: '%s'.\nPlease visit the authorization URL manually.", err.Error())
		}
	} else {
		c.errorf("Complete the login via your OIDC provider. Open the following link in your browser:\n\n    %s\n\n", page)
	}
	c.errorf("Waiting for OIDC authentication to complete...")
	select {
	case a := <-got:
		return a.secret, a.err
	case <-ctx.Done():
		return nil, errors.New("timed out waiting for response from provider")
	}
}

type oidcAnswer struct {
	secret *api.Secret
	err    error
}

// clientNonce is what only this process knows: nobody else who sees the callback
// can use it.
func clientNonce() (string, error) {
	var b [20]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// authURL asks the server for the address of the provider's page.
func authURL(c *call, client *api.Client, params map[string]string, redirect, nonce string) (string, error) {
	secret, err := client.Logical().WriteWithContext(c.ctx, "auth/"+params["mount"]+"/oidc/auth_url", map[string]any{
		"role": params["role"], "redirect_uri": redirect, "client_nonce": nonce,
	})
	if err != nil {
		return "", err
	}
	page := ""
	if secret != nil {
		page, _ = secret.Data["auth_url"].(string)
	}
	if page == "" {
		return "", fmt.Errorf("unable to authorize role %q with redirect_uri %q. Check Vault logs for more information", params["role"], redirect)
	}
	return page, nil
}

// oidcHandler takes the one request of the browser.
func oidcHandler(ctx context.Context, client *api.Client, mount, nonce string, got chan<- oidcAnswer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+oidcPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		data := map[string][]string{"state": q["state"], "code": q["code"], "client_nonce": {nonce}}
		for _, k := range []string{"error", "error_description"} {
			if v := q.Get(k); v != "" {
				data[k] = []string{v}
			}
		}
		secret, err := client.Logical().ReadWithDataWithContext(ctx, "auth/"+mount+"/oidc/callback", data)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintln(w, "The login failed. The terminal tells why; this page can be closed.")
		} else {
			fmt.Fprintln(w, "Signed in. This page can be closed.")
		}
		select {
		case got <- oidcAnswer{secret, err}:
		default: // the browser asked twice
		}
	})
	return mux
}

func openBrowser(ctx context.Context, page string) error {
	name, args := "xdg-open", []string{page}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", page}
	}
	if _, err := exec.LookPath(name); err != nil {
		return err
	}
	return exec.CommandContext(ctx, name, args...).Start() //nolint:gosec // the page is the server's, and an argument, not a command
}
