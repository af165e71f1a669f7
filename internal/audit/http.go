package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"arca/internal/errs"
)

// httpSink posts each record to a URI.
type httpSink struct {
	uri     string
	header  http.Header
	timeout time.Duration
	client  *http.Client

	ctx  context.Context // of the sink's life, ended by interrupt
	stop context.CancelFunc
}

// newHTTP checks the options of an http device: uri, headers (a JSON object of
// lists) and write_timeout.
func newHTTP(o map[string]string) (sink, error) {
	u, err := url.Parse(o["uri"])
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errs.New(errs.Invalid, "uri must be an http or https URI")
	}
	s := &httpSink{uri: u.String(), header: http.Header{}}
	if text := o["headers"]; text != "" {
		var list map[string][]string
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, errs.New(errs.Invalid, "headers must be a JSON object of lists of strings")
		}
		for name, values := range list {
			for _, v := range values {
				s.header.Add(name, v)
			}
		}
	}
	if s.header.Get("Content-Type") == "" {
		s.header.Set("Content-Type", "application/json")
	}
	if s.timeout, err = writeTimeout(o); err != nil {
		return nil, err
	}
	s.client = &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // records go where they were sent, and nowhere else
		},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func (s *httpSink) open() error { return nil }

func (s *httpSink) write(lines [][]byte) (n int, broken bool, err error) {
	for i, l := range lines {
		if err := s.post(l); err != nil {
			return i, true, err
		}
	}
	return len(lines), false, nil
}

func (s *httpSink) post(l []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.uri, bytes.NewReader(l))
	if err != nil {
		return err
	}
	req.Header = s.header.Clone()
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the server answered %s", res.Status)
	}
	return nil
}

func (s *httpSink) reload() error { return nil }

func (s *httpSink) interrupt() { s.stop() }

func (s *httpSink) close() error {
	s.stop()
	s.client.CloseIdleConnections()
	return nil
}
