package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/logging"
)

func newLog(t *testing.T, cfg logging.Config) (*logging.Log, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	cfg.Out = out
	l, err := logging.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, out
}

func TestStandardForm(t *testing.T) {
	t.Parallel()
	l, out := newLog(t, logging.Config{})
	l.Named("core").With("a", 1).WithGroup("g").Info("hello", "text", "two words", "n", 7*time.Second, "err", errors.New("line\nbreak"))
	want := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) \[INFO\]  core: hello: a=1 g\.text="two words" g\.n=7s g\.err="line\\nbreak"\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got %q", out)
	}
}

func TestJSONForm(t *testing.T) {
	t.Parallel()
	l, out := newLog(t, logging.Config{Format: "json"})
	l.Named("seal").Warn("a \"b\"", "n", 7, "ok", true, slog.Group("g", "x", "y\n"))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err, out)
	}
	delete(got, "@timestamp")
	want := map[string]any{"@level": "warn", "@message": `a "b"`, "@module": "seal", "n": 7.0, "ok": true, "g.x": "y\n"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %v, want %v", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	l, out := newLog(t, logging.Config{Level: "warn"})
	core, audit := l.Named("core"), l.Named("audit")
	count := func() int {
		out.Reset()
		core.Info("c")
		audit.Info("a")
		return strings.Count(out.String(), "\n")
	}
	if n := count(); n != 0 {
		t.Errorf("at warn: %d lines", n)
	}
	if !l.SetLevel("core", logging.Debug) || l.SetLevel("nosuch", logging.Debug) {
		t.Error("SetLevel does not tell which loggers exist")
	}
	if n := count(); n != 1 {
		t.Errorf("core at debug: %d lines", n)
	}
	l.Configure(logging.Info) // a reload; what was set by name stays
	if n := count(); n != 2 {
		t.Errorf("all at info: %d lines", n)
	}
	if lv, ok := l.Level("core"); !ok || logging.LevelName(lv) != "debug" {
		t.Errorf("core: %v %v", lv, ok)
	}
	l.SetAll(logging.Error)
	if n := count(); n != 0 {
		t.Errorf("all at error: %d lines", n)
	}
	l.ResetAll()
	if lv := l.Levels()["core"]; lv != logging.Info {
		t.Errorf("after a reset: %v", lv)
	}
	for _, name := range []string{"trace", "debug", "info", "warn", "error", "off"} {
		lv, err := logging.ParseLevel(name)
		if err != nil || logging.LevelName(lv) != name {
			t.Errorf("%s: %v %v", name, lv, err)
		}
	}
	if _, err := logging.ParseLevel("loud"); !errors.Is(err, logging.ErrUnknownLevel) {
		t.Errorf("loud: %v", err)
	}
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	l, out := newLog(t, logging.Config{Level: "error"})
	log := l.Named("core")
	lines, stop, err := l.Subscribe("debug", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("seen")
	if got := <-lines; !strings.Contains(string(got), `"@message":"seen"`) {
		t.Errorf("got %s", got)
	}
	if out.Len() > 0 {
		t.Errorf("a watched line went to the log: %s", out)
	}
	for range 10_000 { // one that does not keep up holds nobody up
		log.Info("flood")
	}
	stop()
	stop() // twice is fine
	n := 0
	for range lines {
		n++
	}
	if n == 0 || n > 1000 {
		t.Errorf("%d lines were kept", n)
	}
	if log.Enabled(t.Context(), logging.Debug) {
		t.Error("still watched")
	}
	if _, _, err := l.Subscribe("loud", ""); !errors.Is(err, logging.ErrUnknownLevel) {
		t.Errorf("got %v", err)
	}
	if _, _, err := l.Subscribe("", "xml"); !errors.Is(err, logging.ErrUnknownFormat) {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, logging.Config{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			log := l.Named("core")
			for range 100 {
				switch i % 4 {
				case 0:
					log.Info("x", "i", i)
				case 1:
					_, stop, _ := l.Subscribe("trace", "")
					stop()
				case 2:
					l.SetLevel("core", logging.Trace)
				default:
					l.Named("new").Debug("y")
				}
			}
		})
	}
	wg.Wait()
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l, _ := newLog(t, logging.Config{File: logging.FileConfig{
		Path: dir + "/", Bytes: 300, Keep: 2, Now: func() time.Time { now = now.Add(time.Second); return now },
	}})
	log := l.Named("core")
	for range 20 {
		log.Info("a line of some length, to fill the file")
	}
	aside, _ := filepath.Glob(dir + "/vault-*.log")
	if len(aside) != 2 {
		t.Errorf("put aside: %v", aside)
	}
	if err := os.Rename(dir+"/vault.log", dir+"/moved"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("after")
	text, err := os.ReadFile(dir + "/vault.log")
	if err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("got %q, %v", text, err)
	}
	now = now.Add(25 * time.Hour)
	log.Info("next day")
	if text, err = os.ReadFile(dir + "/vault.log"); err != nil || strings.Contains(string(text), "after") {
		t.Errorf("not put aside after a day: %q, %v", text, err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []logging.Config{
		{Level: "loud"}, {Format: "xml"}, {File: logging.FileConfig{Path: "/nosuch/folder/x.log"}},
	} {
		if _, err := logging.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func BenchmarkDisabled(b *testing.B) {
	l, err := logging.New(logging.Config{})
	if err != nil {
		b.Fatal(err)
	}
	log := l.Named("core")
	b.ReportAllocs()
	for b.Loop() {
		log.Debug("x")
	}
}
