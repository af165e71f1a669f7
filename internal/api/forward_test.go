package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/api"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/wire"
)

// A turncoat is a core that is a standby when it is asked first, and the active one then.
type turncoat struct{ asked atomic.Int32 }

func (c *turncoat) Handle(context.Context, *engine.Request) (*engine.Response, error) {
	if c.asked.Add(1) == 1 {
		return nil, errs.New(errs.NotActive, "a standby")
	}
	return nil, nil
}

func (c *turncoat) Sealed() bool { return false }

// TestClientHasGivenUp has a client give up while its request waits for an active node that hangs, and by then is none: it is not done afterwards, as the client may have done
// something else since. That of one who waits is.
func TestClientHasGivenUp(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("whether a client is there cannot be seen here")
	}
	for name, waits := range map[string]bool{"gives up": false, "waits": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c turncoat
			there, answer, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			door := api.New(api.Config{Core: &c, Forward: func(context.Context, *http.Request, []byte) (*http.Response, error) {
				close(there)
				<-answer
				return nil, errs.New(errs.NotActive, "no more")
			}})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &wire.Server{Fallback: &http.Server{ReadHeaderTimeout: time.Minute}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(over)
				door.ServeHTTP(w, r)
			})}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(client, "PUT /v1/secret/x HTTP/1.1\r\nHost: h\r\nX-Vault-Token: t\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
				t.Fatal(err)
			}
			<-there
			if !waits {
				client.Close()
				<-time.After(200 * time.Millisecond) // it is heard by then
			}
			close(answer)
			<-over
			if done := c.asked.Load() == 2; done != waits {
				t.Errorf("it was done: %t", done)
			}
			client.Close()
			srv.Close()
			if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}
