package sys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/telemetry"
	"arca/internal/version"
)

// observeRoutes show what the process does.
func (e *Engine) observeRoutes() []engine.Route {
	routes := []engine.Route{
		engine.Read("pprof", e.pprofIndex, engine.Sudo, engine.RootOnly, engine.ID("pprof-index"), engine.Help("List the profiles.")),
		engine.Read("pprof/{name...}", e.pprof, engine.Sudo, engine.RootOnly, engine.NoParamWarn, engine.ID("pprof"), engine.Help("Take a profile.")),
		engine.Read("metrics", e.metrics, engine.RootOnly, engine.ID("metrics"), engine.Help("Tell the metrics of this node.")),
		engine.Read("host-info", e.hostInfo, engine.RootOnly, engine.ID("collect-host-information"), engine.Help("Tell about the machine.")),
		engine.Read("in-flight-req", e.inFlight, engine.Sudo, engine.RootOnly, engine.ID("collect-in-flight-request-information"),
			engine.Help("List the requests that are being served.")),
		engine.List("version-history", e.versionHistory, engine.RootOnly, engine.ID("version-history"), engine.Help("List the versions that served this store.")),
	}
	return append(append(routes, e.counterRoutes()...), e.specRoutes()...)
}

type metricsIn struct {
	Format string `api:"format" help:"prometheus, or JSON when absent."`
}

// S3-56
func (e *Engine) metrics(_ context.Context, _ *engine.Call, in metricsIn) (*engine.Response, error) {
	refuse := func(why string) (*engine.Response, error) {
		return &engine.Response{Raw: &engine.Raw{Status: http.StatusBadRequest, ContentType: "text/plain", Body: []byte(why)}}, nil
	}
	r := e.core.Metrics()
	if r == nil {
		return nil, errs.New(errs.Unavailable, "nothing is measured here")
	}
	switch in.Format {
	case "":
		raw, err := r.JSON()
		return &engine.Response{Raw: &engine.Raw{Body: raw}}, err
	case "prometheus":
		raw, err := r.Prometheus()
		if errors.Is(err, telemetry.ErrPrometheus) {
			return refuse(err.Error())
		}
		return &engine.Response{Raw: &engine.Raw{ContentType: "text/plain; version=0.0.4; charset=utf-8", Body: raw}}, err
	}
	return refuse(fmt.Sprintf("metric response format %q unknown", in.Format))
}

func gone(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return nil, errs.New(errs.NotFound, "The functionality has been removed on this path")
}

const maxProfile = 60 * time.Second

type pprofIn struct {
	Name    string `api:"name" help:"cmdline, profile, trace, symbol, or a profile of Go's runtime such as heap."`
	Debug   int    `api:"debug" help:"1 is text."`
	GC      int    `api:"gc" help:"Collect garbage first."`
	Seconds int    `api:"seconds" help:"How long to measure."`
}

func (e *Engine) pprofIndex(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	var b strings.Builder
	for _, p := range pprof.Profiles() {
		fmt.Fprintf(&b, "%d\t%s\n", p.Count(), p.Name())
	}
	return text(b.String()), nil
}

func text(s string) *engine.Response {
	return &engine.Response{Raw: &engine.Raw{ContentType: "text/plain; charset=utf-8", Body: []byte(s)}}
}

func binary(b []byte) *engine.Response {
	return &engine.Response{Raw: &engine.Raw{ContentType: "application/octet-stream", Body: b}}
}

func (e *Engine) pprof(ctx context.Context, _ *engine.Call, in pprofIn) (*engine.Response, error) {
	var buf bytes.Buffer
	long := func(def int) time.Duration {
		if in.Seconds <= 0 {
			in.Seconds = def
		}
		return min(time.Duration(in.Seconds)*time.Second, maxProfile)
	}
	switch in.Name {
	case "":
		return e.pprofIndex(ctx, nil, engine.None{})
	case "cmdline":
		return text(strings.Join(os.Args, "\x00")), nil
	case "symbol":
		return text("num_symbols: 1\n"), nil
	case "profile":
		if err := pprof.StartCPUProfile(&buf); err != nil {
			return nil, errs.New(errs.Conflict, "a profile is being taken already")
		}
		wait(ctx, long(30))
		pprof.StopCPUProfile()
		return binary(buf.Bytes()), nil
	case "trace":
		if err := trace.Start(&buf); err != nil {
			return nil, errs.New(errs.Conflict, "a trace is being taken already")
		}
		wait(ctx, long(1))
		trace.Stop()
		return binary(buf.Bytes()), nil
	}
	p := pprof.Lookup(in.Name)
	if p == nil {
		return nil, engine.ErrPath
	}
	if in.GC > 0 {
		runtime.GC()
	}
	if err := p.WriteTo(&buf, in.Debug); err != nil {
		return nil, err
	}
	if in.Debug > 0 {
		return text(buf.String()), nil
	}
	return binary(buf.Bytes()), nil
}

// wait ends with the time or the request, whichever comes first.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (e *Engine) hostInfo(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	read := func(path string) string {
		raw, err := os.ReadFile(path) //nolint:gosec // the files of /proc named below
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(raw))
	}
	memory := map[string]uint64{}
	for line := range strings.SplitSeq(read("/proc/meminfo"), "\n") {
		name, value, ok := strings.Cut(line, ":")
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if ok && err == nil {
			memory[name] = n << 10
		}
	}
	uptime, _, _ := strings.Cut(read("/proc/uptime"), ".")
	seconds, _ := strconv.ParseUint(uptime, 10, 64) // 0 where it cannot be read
	return data(map[string]any{
		"timestamp": call.Now.Format(time.RFC3339Nano),
		"host": map[string]any{
			"hostname": hostname(), "os": runtime.GOOS, "platform": runtime.GOOS, "kernelArch": runtime.GOARCH,
			"kernelVersion": read("/proc/sys/kernel/osrelease"), "uptime": seconds,
		},
		"cpu": map[string]any{"count": runtime.NumCPU()},
		"memory": map[string]any{
			"total": memory["MemTotal"], "free": memory["MemFree"], "available": memory["MemAvailable"],
			"buffers": memory["Buffers"], "cached": memory["Cached"],
		},
	}), nil
}

func (e *Engine) inFlight(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	out := map[string]any{}
	for _, r := range e.core.InFlight() {
		out[r.ID] = r
	}
	return rawJSON(out)
}

func (e *Engine) versionHistory(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	v := strings.TrimSuffix(version.Compat(e.core.Config().CompatVersion), "+ent")
	return data(map[string]any{
		"keys":     []string{v},
		"key_info": map[string]any{v: map[string]any{"previous_version": nil, "timestamp_installed": e.core.Started().UTC().Format(time.RFC3339)}},
	}), nil
}
