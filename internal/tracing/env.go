package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// FromEnv completes a Config by the environment variables of OpenTelemetry
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables):
// the endpoint, headers, timeout and certificates of OTLP, the sampler, the name of
// the service. What cfg has already comes first. Endpoint stays empty when none is
// named, or all is switched off.
func FromEnv(cfg Config, env func(string) string) (Config, error) {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(env("OTEL_TRACES_EXPORTER"), "none") {
		cfg.Endpoint = ""
		return cfg, nil
	}
	option := func(name string) string {
		if v := env("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
			return v
		}
		return env("OTEL_EXPORTER_OTLP_" + name)
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	}
	if base := env("OTEL_EXPORTER_OTLP_ENDPOINT"); cfg.Endpoint == "" && base != "" {
		cfg.Endpoint = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	if cfg.Endpoint == "" {
		return cfg, nil
	}
	if u, err := url.Parse(cfg.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return cfg, fmt.Errorf("the endpoint for traces must be a URL like http://localhost:4318/v1/traces")
	}
	if p := option("PROTOCOL"); p == "grpc" {
		return cfg, fmt.Errorf("traces are sent by http/json: OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported")
	}
	if cfg.Service == "" {
		cfg.Service = env("OTEL_SERVICE_NAME")
	}
	headers, err := parseHeaders(option("HEADERS"))
	if err != nil {
		return cfg, err
	}
	cfg.Headers = headers
	if text := option("TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			return cfg, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT must be a number of milliseconds")
		}
		cfg.Timeout = time.Duration(ms) * time.Millisecond
	}
	sampler := env("OTEL_TRACES_SAMPLER")
	cfg.Parent = sampler == "" || strings.HasPrefix(sampler, "parentbased_")
	if cfg.Ratio, err = ratio(sampler, env("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return cfg, err
	}
	cfg.Client, err = client(option("CERTIFICATE"), option("CLIENT_CERTIFICATE"), option("CLIENT_KEY"))
	return cfg, err
}

func parseHeaders(text string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS must be like name=value,name=value") // the value is a secret
		}
		out[name] = value
	}
	return out, nil
}

// ratio is the part of the requests without a traced caller that are traced.
func ratio(sampler, arg string) (float64, error) {
	switch strings.TrimPrefix(sampler, "parentbased_") {
	case "", "always_on":
		return 1, nil
	case "always_off":
		return 0, nil
	case "traceidratio":
		if arg == "" {
			return 1, nil
		}
		r, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(r >= 0 && r <= 1) {
			return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG must be from 0 to 1")
		}
		return r, nil
	}
	return 0, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is none of always_on, always_off, traceidratio, or these with parentbased_", sampler)
}

func client(ca, cert, key string) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // so it is documented
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca) //nolint:gosec // G304: the operator names it
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}
