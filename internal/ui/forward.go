package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
)

// While the cluster has no active node, a request waits: another is elected within
// a second or two.
const (
	forwardPatience = 8 * time.Second
	forwardPause    = 15 * time.Millisecond

	maxForwardedAnswer = 16 << 20 // bytes
)

// elsewhere has a request served by the active node, or by this one, should it
// become that meanwhile. Nothing of it has happened when it comes here.
func (d *door) elsewhere(ctx context.Context, r *http.Request, req *engine.Request, body map[string]any) (map[string]any, *engine.Response, error) {
	patience, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	out, raw, err := asHTTP(r, req, body)
	if err != nil {
		return nil, nil, err
	}
	defer clear(raw)
	for {
		answer, err := d.forward(ctx, out, raw) //nolint:bodyclose // read closes it
		if err == nil {
			return read(answer)
		}
		if !errs.Is(err, errs.NotActive) {
			return nil, nil, err
		}
		pause := time.NewTimer(forwardPause)
		select {
		case <-pause.C:
		case <-patience.Done():
			pause.Stop()
			return nil, nil, errs.New(errs.Unavailable, "no active node answers: %w", err)
		}
		if members, res, err := d.here(ctx, req); err == nil || !errs.Is(err, errs.NotActive) {
			return members, res, err
		}
	}
}

// asHTTP is the request as one of the API, from the same browser.
func asHTTP(r *http.Request, req *engine.Request, body map[string]any) (*http.Request, []byte, error) {
	out := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/v1/" + req.Path}, Host: "arca", RemoteAddr: r.RemoteAddr, TLS: r.TLS,
		Header: http.Header{"X-Vault-Request": {"true"}, "User-Agent": r.Header["User-Agent"]},
	}
	if req.Token != "" {
		out.Header.Set("X-Vault-Token", req.Token)
	}
	if req.Namespace != "" {
		out.Header.Set("X-Vault-Namespace", req.Namespace)
	}
	query := url.Values{}
	switch req.Op { //nolint:exhaustive // these are made here
	case engine.OpList:
		query.Set("list", "true")
	case engine.OpDelete:
		out.Method = http.MethodDelete
	case engine.OpUpdate, engine.OpCreate:
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		out.Method, out.ContentLength = http.MethodPut, int64(len(raw))
		out.Header.Set("Content-Type", "application/json")
		return out, raw, nil
	}
	for name, v := range body {
		query.Set(name, fmt.Sprint(v))
	}
	out.URL.RawQuery = query.Encode()
	return out, nil, nil
}

// read takes the API's answer apart: the members of its data, or all of it where it
// has none.
func read(answer *http.Response) (map[string]any, *engine.Response, error) {
	defer func() { _ = answer.Body.Close() }() // it was read, or is lost
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxForwardedAnswer))
	if err != nil {
		return nil, nil, errs.New(errs.Unavailable, "the active node's answer: %w", err)
	}
	defer clear(raw)
	var said struct {
		Data   map[string]any `json:"data"`
		Errors []string       `json:"errors"`
		Auth   *struct {
			Token string `json:"client_token"`
			MFA   any    `json:"mfa_requirement"`
		} `json:"auth"`
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = []byte("{}")
	}
	if err := decode(raw, &said); err != nil && answer.StatusCode/100 == 2 {
		return nil, nil, errs.New(errs.Failed, "the active node's answer is none of the API")
	}
	if answer.StatusCode/100 != 2 && len(said.Errors) > 0 {
		return nil, nil, errs.New(kindOf(answer.StatusCode), "%s", strings.Join(said.Errors, "; "))
	}
	if answer.StatusCode/100 != 2 && answer.StatusCode != http.StatusNotFound && said.Data == nil {
		var all map[string]any // an application's refusal is an answer: see authorize
		if decode(raw, &all) == nil && all["error"] != nil {
			return all, &engine.Response{}, nil
		}
	}
	if answer.StatusCode/100 != 2 {
		return nil, nil, errs.New(kindOf(answer.StatusCode), "%s", http.StatusText(answer.StatusCode))
	}
	res := &engine.Response{}
	if said.Auth != nil {
		res.Auth = &engine.Auth{ClientToken: said.Auth.Token, MFARequirement: said.Auth.MFA}
	}
	if said.Data != nil || said.Auth != nil {
		return said.Data, res, nil
	}
	var all map[string]any
	return all, res, decode(raw, &all)
}

func decode(raw []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return dec.Decode(out)
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
	case http.StatusTooManyRequests:
		return errs.Limited
	case http.StatusServiceUnavailable:
		return errs.Unavailable
	case http.StatusRequestEntityTooLarge:
		return errs.TooLarge
	}
	return errs.Failed
}
