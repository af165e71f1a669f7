package kes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
)

// While the cluster has no active node, a request waits: another is elected within
// a second or two.
const (
	forwardPatience = 8 * time.Second
	forwardPause    = 15 * time.Millisecond

	maxForwardedAnswer = 16 << 20 // bytes
)

// elsewhere has a call made by the active node, or by this one, should it become
// that meanwhile. Nothing of the call has happened when it comes here.
func (i Inside) elsewhere(ctx context.Context, by Caller, req *engine.Request, body []byte, out any) error {
	patience, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	for {
		answer, err := i.Forward(engine.WithDoor(ctx), i.asHTTP(by, req, len(body)), body) //nolint:bodyclose // read closes it
		if err == nil {
			return read(answer, out)
		}
		if !errs.Is(err, errs.NotActive) {
			return err
		}
		pause := time.NewTimer(forwardPause)
		select {
		case <-pause.C:
		case <-patience.Done():
			pause.Stop()
			return errs.New(errs.Unavailable, "no active node answers: %w", err)
		}
		res, err := i.Core.Handle(ctx, req)
		if err == nil {
			return decode(res, out)
		}
		if !errs.Is(err, errs.NotActive) {
			return err
		}
	}
}

// asHTTP is the call as a request of the API, from the client with its
// certificate.
func (i Inside) asHTTP(by Caller, req *engine.Request, size int) *http.Request {
	method := http.MethodGet
	switch req.Op { //nolint:exhaustive // these are made here
	case engine.OpUpdate:
		method = http.MethodPut
	case engine.OpDelete:
		method = http.MethodDelete
	}
	r := &http.Request{
		Method: method, URL: &url.URL{Path: "/v1/" + req.Path}, Host: "arca", ContentLength: int64(size), TLS: req.TLS,
		Header: http.Header{"Content-Type": jsonType, "X-Vault-Request": {"true"}, identityHeader: {by.Identity}},
	}
	if req.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", req.Namespace)
	}
	if by.HTTP != nil {
		r.RemoteAddr = by.HTTP.RemoteAddr
	}
	return r
}

// read takes the API's answer apart.
func read(answer *http.Response, out any) error {
	defer func() { _ = answer.Body.Close() }() // it was read, or is lost
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxForwardedAnswer))
	if err != nil {
		return errs.New(errs.Unavailable, "the active node's answer: %w", err)
	}
	defer clear(raw)
	var said struct {
		Data   json.RawMessage `json:"data"`
		Errors []string        `json:"errors"`
	}
	if len(raw) > 0 && json.Unmarshal(raw, &said) != nil {
		return errs.New(errs.Failed, "the active node's answer is none of the API")
	}
	if answer.StatusCode/100 != 2 {
		text := http.StatusText(answer.StatusCode)
		if len(said.Errors) > 0 {
			text = said.Errors[0]
		}
		return refusalOf(answer.StatusCode, text)
	}
	switch {
	case out == nil:
		return nil
	case json.Unmarshal(said.Data, out) != nil:
		return errs.New(errs.Failed, "the active node's answer is not what was asked for")
	}
	return nil
}

// refusalOf makes an error of the API's code and text: the mount's own are known
// by their texts, which KES's clients compare, too.
func refusalOf(code int, text string) error {
	for _, known := range []error{
		store.ErrNotFound, store.ErrExists, key.ErrNotAuthentic, key.ErrNoHMACKey, policy.ErrDenied, ErrNoPolicy, ErrNoIdentity, identity.ErrNone,
	} {
		if text == known.Error() {
			var kinded *errs.Error
			if errors.As(known, &kinded) {
				return known
			}
			return errs.With(kindOf(code), known)
		}
	}
	return errs.New(kindOf(code), "%s", text)
}

func kindOf(code int) errs.Kind {
	switch code {
	case http.StatusBadRequest:
		return errs.Invalid
	case http.StatusForbidden:
		return errs.Denied
	case http.StatusNotFound:
		return errs.NotFound
	case http.StatusMethodNotAllowed:
		return errs.Unsupported
	case http.StatusUnsupportedMediaType:
		return errs.MediaType
	case http.StatusTooManyRequests:
		return errs.Limited
	case http.StatusServiceUnavailable:
		return errs.Unavailable
	}
	return errs.Failed
}
