package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
)

// Defaults of debug.
const (
	bundleDuration        = 2 * time.Minute
	bundleInterval        = 30 * time.Second
	bundleMetricsInterval = 10 * time.Second
	bundleStamp           = "2006-01-02T15-04-05Z"
	bundleTraceSeconds    = "1"             // a trace is kept in the server's memory until it is sent
	bundleMaxProfile      = 60              // seconds; the server's own limit
	bundleGrace           = 5 * time.Second // for what is being asked when the time is over
)

// A bundleTarget is what a file of a bundle shows again and again.
type bundleTarget struct {
	name, file string
	paths      map[string]string // by the member that shows the answer
}

func bundleTargets() []bundleTarget {
	const anyCode = "sys/health?standbycode=200&sealedcode=200&uninitcode=200&drsecondarycode=200&performancestandbycode=200"
	return []bundleTarget{
		{"config", "config.json", map[string]string{"config": "sys/config/state/sanitized"}},
		{"host", "host_info.json", map[string]string{"host": "sys/host-info"}},
		{"log", "vault.log", nil},
		{"metrics", "metrics.json", map[string]string{"metrics": "sys/metrics"}},
		{"pprof", "", nil},
		{"replication-status", "replication_status.json", map[string]string{
			"ha_status": "sys/ha-status", "leader": "sys/leader", "raft": "sys/storage/raft/configuration", "autopilot": "sys/storage/raft/autopilot/state",
		}},
		{"requests", "requests.json", map[string]string{"requests": "sys/in-flight-req"}},
		{"server-status", "server_status.json", map[string]string{"health": anyCode, "seal_status": "sys/seal-status"}},
	}
}

func bundleNames(targets []bundleTarget) []string {
	names := make([]string, 0, len(targets))
	for _, t := range targets {
		names = append(names, t.name)
	}
	return names
}

// bundleFlags are the flags of debug.
type bundleFlags struct {
	compress                            *bool
	duration, interval, metricsInterval *time.Duration
	logFormat, output                   *string
	targets                             *[]string
}

func debugCommand() command {
	return command{
		name: "debug", usage: "[options]", shared: withHTTP,
		summary: "Collect what is needed to find a fault of a server",
		about: `Looks at a server for a while, and writes what it sees into one archive: its configuration without
secrets, machine, status, cluster, requests under way, metrics, log, and profiles of its program. What the token may not see is
left out, and index.json says so. An interrupt ends it early, and keeps what is there.

    $ vault debug -duration=1m -interval=10s -target=metrics -target=pprof`,
		setup: func(f *flagSet) runFunc {
			b := bundleFlags{
				compress:        f.Bool("compress", true, "Write an archive rather than a folder."),
				duration:        f.Duration("duration", "How long to look. The default is 2m."),
				interval:        f.Duration("interval", "How often to look. The default is 30s."),
				metricsInterval: f.Duration("metrics-interval", "How often to look at metrics. The default is 10s."),
				output:          f.String("output", "", "path", "Archive or folder to make."),
				targets:         f.Strings("target", "name", "What to look at: "+strings.Join(bundleNames(bundleTargets()), ", ")+". May be repeated. The default is everything."),
			}
			for _, t := range bundleTargets() {
				f.oneOf(append(f.infos[len(f.infos)-1].values, t.name)...)
			}
			b.logFormat = f.String("log-format", "standard", "format", "standard or json.")
			f.oneOf("standard", "json")
			return func(c *call) error { return runDebug(c, b) }
		},
	}
}

// A bundle is what debug collects.
type bundle struct {
	client   *api.Client
	dir      string
	end      time.Time
	interval time.Duration

	mu       sync.Mutex
	failures []*bundleFailure
}

// A bundleFailure is something that could not be had.
type bundleFailure struct {
	Target string    `json:"target"`
	What   string    `json:"what"`
	Error  string    `json:"error"`
	First  time.Time `json:"first"`
	Times  int       `json:"times"`
}

func runDebug(c *call, f bundleFlags) error {
	chosen, err := f.check(c)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	started := time.Now().UTC()
	output := c.env.expand(strings.TrimSpace(*f.output))
	if output == "" {
		output = "vault-debug-" + started.Format(bundleStamp)
	}
	dir := output
	if *f.compress {
		name := strings.TrimSuffix(strings.TrimSuffix(output, ".tgz"), ".tar.gz")
		if name == output {
			output += ".tar.gz"
		}
		dir = filepath.Join(output+unfinished, filepath.Base(name))
	}
	if _, err := os.Lstat(output); !errors.Is(err, os.ErrNotExist) {
		return failf("%s is there already: choose another -output", output)
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := client.Sys().SealStatusWithContext(ctx); err != nil {
		return failf("Error reading the server's status: %w", err)
	}
	client.SetClientTimeout(0) // a profile takes as long as it is asked for
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return failf("Error making the output folder: %w", err)
	}
	b := &bundle{client: client, dir: dir, end: started.Add(*f.duration), interval: *f.interval, failures: []*bundleFailure{}}
	c.printf("Looking at %s for %v; an interrupt ends that early.\n", client.Address(), *f.duration)
	b.collect(ctx, chosen, *f.metricsInterval, *f.logFormat)
	names := bundleNames(chosen)
	raw, err := json.MarshalIndent(map[string]any{
		"version": 1, "client_version": c.versionLine(), "vault_address": client.Address(), "timestamp": started, "ended": time.Now().UTC(),
		"duration_seconds": f.duration.Seconds(), "interval_seconds": f.interval.Seconds(), "metrics_interval_seconds": f.metricsInterval.Seconds(),
		"targets": names, "errors": b.failures,
	}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "index.json"), append(raw, '\n'), 0o600)
	}
	if err == nil && *f.compress {
		err = archive(filepath.Dir(dir), output)
	}
	if err != nil {
		return failf("Error writing the bundle: %w", err)
	}
	for _, failure := range b.failures {
		c.errorf("%s: %s: %s\n", failure.Target, failure.What, failure.Error)
	}
	c.printf("Success! Bundle written to: %s\n", output)
	return nil
}

// check returns what is to be looked at, and sets what was not given.
func (f *bundleFlags) check(c *call) ([]bundleTarget, error) {
	if err := c.exactly(0); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{{"duration", f.duration, bundleDuration}, {"interval", f.interval, bundleInterval}, {"metrics-interval", f.metricsInterval, bundleMetricsInterval}} {
		if !c.flags.given(d.name) {
			*d.value = d.def
		}
		if *d.value <= 0 {
			return nil, usagef("-%s must be more than nothing", d.name)
		}
	}
	all := bundleTargets()
	for _, name := range *f.targets {
		if !slices.ContainsFunc(all, func(t bundleTarget) bool { return t.name == name }) {
			return nil, usagef("Unknown target %q. vault debug -h shows which there are", name)
		}
	}
	if len(*f.targets) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(t bundleTarget) bool { return !slices.Contains(*f.targets, t.name) }), nil
}

// collect looks at everything until the time is over or ctx ends.
func (b *bundle) collect(ctx context.Context, chosen []bundleTarget, metrics time.Duration, form string) {
	ctx, cancel := context.WithDeadline(ctx, b.end.Add(bundleGrace))
	defer cancel()
	var all sync.WaitGroup
	for _, t := range chosen {
		all.Go(func() {
			switch t.name {
			case "log":
				b.follow(ctx, filepath.Join(b.dir, t.file), form)
			case "pprof":
				b.every(ctx, b.interval, func() { b.profiles(ctx) })
			case "metrics":
				b.samples(ctx, t, metrics)
			default:
				b.samples(ctx, t, b.interval)
			}
		})
	}
	all.Wait()
}

// every does something at once and again after each interval, as long as there is time.
func (b *bundle) every(ctx context.Context, interval time.Duration, do func()) {
	over := time.NewTimer(time.Until(b.end))
	defer over.Stop()
	again := time.NewTicker(interval)
	defer again.Stop()
	for {
		do()
		select {
		case now := <-again.C:
			if !now.Before(b.end) {
				return
			}
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// failed notes what could not be had; the same counts up.
func (b *bundle) failed(target, what string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.failures {
		if f.Target == target && f.What == what && f.Error == err.Error() {
			f.Times++
			return
		}
	}
	b.failures = append(b.failures, &bundleFailure{Target: target, What: what, Error: err.Error(), First: time.Now().UTC(), Times: 1})
}

// ask returns what a path answers.
func (b *bundle) ask(ctx context.Context, path string) ([]byte, error) {
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Logical().ReadRawWithDataWithContext(ctx, path, values)
	if resp != nil {
		defer func() { _ = resp.Body.Close() }() // it is read
	}
	switch {
	case err != nil:
		return nil, err
	case resp == nil:
		return nil, errors.New("there is no answer")
	}
	return io.ReadAll(resp.Body)
}

// samples writes a list of what a target's paths answered, each as it comes.
func (b *bundle) samples(ctx context.Context, t bundleTarget, interval time.Duration) {
	f, err := os.OpenFile(filepath.Join(b.dir, t.file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		b.failed(t.name, t.file, err)
		return
	}
	before := "[\n"
	write := func(text string) {
		if _, err := f.WriteString(text); err != nil {
			b.failed(t.name, t.file, err)
		}
	}
	b.every(ctx, interval, func() {
		sample := map[string]any{"timestamp": time.Now().UTC()}
		for member, path := range t.paths {
			raw, err := b.ask(ctx, path)
			if err == nil && !json.Valid(raw) {
				err = errors.New("the answer is no JSON")
			}
			if err != nil {
				b.failed(t.name, path, err)
				continue
			}
			sample[member] = json.RawMessage(raw)
		}
		raw, err := json.Marshal(sample)
		if err != nil {
			b.failed(t.name, t.file, err)
			return
		}
		write(before + string(raw))
		before = ",\n"
	})
	write("\n]\n")
	if err := f.Close(); err != nil {
		b.failed(t.name, t.file, err)
	}
}

// profiles takes one of each kind into a folder of its own.
func (b *bundle) profiles(ctx context.Context) {
	now := time.Now().UTC()
	dir := filepath.Join(b.dir, now.Format(bundleStamp))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.failed("pprof", dir, err)
		return
	}
	seconds := min(max(int(min(b.interval, b.end.Sub(now))/time.Second), 1), bundleMaxProfile)
	files := map[string]string{
		"goroutines.txt": "goroutine?debug=2", "profile.prof": fmt.Sprint("profile?seconds=", seconds), "trace.out": "trace?seconds=" + bundleTraceSeconds,
	}
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		files[name+".prof"] = name
	}
	var all sync.WaitGroup
	for file, path := range files {
		all.Go(func() {
			raw, err := b.ask(ctx, "sys/pprof/"+path)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), raw, 0o600)
			}
			if err != nil {
				b.failed("pprof", path, err)
			}
		})
	}
	all.Wait()
}

// follow writes down the server's log until the time is over.
func (b *bundle) follow(ctx context.Context, file, form string) {
	ctx, cancel := context.WithDeadline(ctx, b.end)
	defer cancel()
	lines, err := b.client.Sys().Monitor(ctx, "debug", form)
	if errors.Is(err, context.DeadlineExceeded) { // a proxy, or a standby that sends all on, answers with the first line: none came
		none := make(chan string)
		close(none)
		lines, err = none, nil
	}
	if err != nil {
		b.failed("log", "sys/monitor", err)
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names it
	if err != nil {
		b.failed("log", file, err)
		return
	}
	for line := range lines {
		if _, werr := fmt.Fprintln(f, line); werr != nil {
			err = werr
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		b.failed("log", file, err)
	}
}

// unfinished is behind the name of what is being made.
const unfinished = ".incomplete"

// archive puts what is in a folder into a compressed file, which appears under its name when it is complete, and removes the folder then.
func archive(dir, output string) error {
	tmp := output + unfinished + ".gz"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(f)
	w := tar.NewWriter(zip)
	err = errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), zip.Close(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, output)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
