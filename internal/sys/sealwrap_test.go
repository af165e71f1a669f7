package sys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/barrier"
	"arca/internal/core"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// mirrorSeal is a seal that turns bytes around.
type mirrorSeal struct{}

func (mirrorSeal) Encrypt(_ context.Context, plain []byte) ([]byte, error) {
	out := bytes.Clone(plain)
	for i := range out {
		out[i] ^= 0xff
	}
	return out, nil
}

func (m mirrorSeal) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	return m.Encrypt(ctx, sealed)
}

var withSeal = []seal.Wrapper{{Type: "transit", Name: "transit", Sealer: mirrorSeal{}}}

// A wrapServer is a server of which the store is looked at.
type wrapServer struct {
	*arcatest.Server
	t     *testing.T
	store storage.Backend
}

func newWrapServer(t *testing.T, cfg core.Config) *wrapServer {
	t.Helper()
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg.RawEndpoint = true
	return &wrapServer{arcatest.New(t, arcatest.Config{Backend: b, Core: cfg}), t, b}
}

// keys lists the records of a mount, and those that are not as they would be written now.
func (s *wrapServer) keys(path string) (all, wrapped, unlike int) {
	s.t.Helper()
	for kv := range s.each(path) {
		all++
		if kv[1][0] == 2 {
			wrapped++
		}
		is, err := s.Core.Active().Ring.Unlike(kv[0], []byte(kv[1]))
		if err != nil {
			s.t.Fatal(err)
		}
		if is {
			unlike++
		}
	}
	return all, wrapped, unlike
}

// each goes over the keys and records of a mount.
func (s *wrapServer) each(path string) func(func([2]string) bool) {
	s.t.Helper()
	return func(yield func([2]string) bool) {
		id := s.Must("GET", "sys/mounts/"+path, s.Root, nil)["uuid"]
		it, err := s.store.Scan(s.t.Context(), storage.ScanOptions{Prefix: fmt.Sprintf("n/root/m/%s/", id)})
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() { _ = it.Close() }()
		for it.Next() {
			record, err := it.Value()
			if err != nil {
				s.t.Fatal(err)
			}
			if !yield([2]string{string(it.Key()), string(record)}) {
				return
			}
		}
	}
}

func (s *wrapServer) check(path string, wantAll, wantWrapped, wantUnlike int) {
	s.t.Helper()
	if all, wrapped, unlike := s.keys(path); all != wantAll || wrapped != wantWrapped || unlike != wantUnlike {
		s.t.Errorf("%s: %d values, %d wrapped, %d not as they would be written; want %d, %d, %d", path, all, wrapped, unlike, wantAll, wantWrapped, wantUnlike)
	}
}

// rewrapped waits until no rewrap is running, and returns what it says.
func (s *wrapServer) rewrapped() (processed, succeeded, failed int64) {
	s.t.Helper()
	var data map[string]any
	s.until(func() bool {
		data = arcatest.Dig(s.Must("GET", "sys/sealwrap/rewrap", s.Root, nil), "data").(map[string]any)
		return data["is_running"] == false
	})
	number := func(name string) int64 {
		n, err := arcatest.Dig(data, "entries", name).(json.Number).Int64()
		if err != nil {
			s.t.Fatal(err)
		}
		return n
	}
	return number("processed"), number("succeeded"), number("failed")
}

// until waits for something that happens in the background.
func (s *wrapServer) until(ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatal("waited in vain")
		}
		<-time.NewTimer(time.Millisecond).C
	}
}

// version is the newest version of the seal-wrap keyring.
func (s *wrapServer) version() uint32 {
	s.t.Helper()
	info, err := s.Core.Active().Ring.WrapRing().Info()
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Term
}

func (s *wrapServer) rewrap() (processed, succeeded, failed int64) {
	s.t.Helper()
	if code, body := s.Do("POST", "sys/sealwrap/rewrap", s.Root, nil); code != 204 {
		s.t.Fatalf("rewrap: %d %v", code, body)
	}
	return s.rewrapped()
}

func TestSealWrapOfMounts(t *testing.T) {
	t.Parallel()
	s := newWrapServer(t, core.Config{Seals: withSeal})
	for path, body := range map[string]map[string]any{
		"wrapped": {"type": "kv", "seal_wrap": true}, "plain": {"type": "kv"},
		"v2": {"type": "kv", "seal_wrap": true, "options": map[string]any{"version": "2"}}, "transit": {"type": "transit", "seal_wrap": true},
	} {
		s.Must("POST", "sys/mounts/"+path, s.Root, body)
	}
	s.Must("POST", "wrapped/a", s.Root, map[string]any{"b": "c"})
	s.Must("POST", "plain/a", s.Root, map[string]any{"b": "c"})
	s.Must("POST", "v2/data/a", s.Root, map[string]any{"data": map[string]any{"b": "c"}})
	s.Must("POST", "transit/keys/k", s.Root, nil)
	s.Must("POST", "transit/keys/k/rotate", s.Root, nil)
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle", "seal_wrap": true})
	s.Must("POST", "auth/approle/role/r", s.Root, map[string]any{"token_ttl": "1h"})
	s.Must("POST", "auth/approle/role/r/secret-id", s.Root, nil)
	s.check("wrapped", 1, 1, 0)
	s.check("plain", 1, 0, 1)
	for _, path := range []string{"v2", "transit"} {
		if all, wrapped, _ := s.keys(path); all == 0 || wrapped != all {
			t.Errorf("%s: %d of %d are wrapped", path, wrapped, all)
		}
	}
	if got := arcatest.Dig(s.Must("GET", "wrapped/a", s.Root, nil), "data", "b"); got != "c" {
		t.Errorf("read %v", got)
	}
	s.Restart()
	for path, where := range map[string][]string{"wrapped/a": {"data", "b"}, "plain/a": {"data", "b"}, "v2/data/a": {"data", "data", "b"}} {
		if got := arcatest.Dig(s.Must("GET", path, s.Root, nil), where...); got != "c" {
			t.Errorf("%s: read %v", path, got)
		}
	}
	// Moved, the values stay what they are.
	s.Must("POST", "sys/remount", s.Root, map[string]any{"from": "wrapped", "to": "moved"})
	s.until(func() bool {
		code, _ := s.Do("GET", "moved/a", s.Root, nil)
		return code == 200
	})
	s.check("moved", 1, 1, 0)
	// sys/raw shows them in clear and writes them as the mount does.
	for kv := range s.each("moved") {
		raw := s.Must("GET", "sys/raw/"+kv[0], s.Root, nil)
		value := arcatest.Dig(raw, "data", "value").(string)
		if !strings.Contains(value, `"c"`) {
			t.Errorf("sys/raw: %s", value)
		}
		s.Must("POST", "sys/raw/"+kv[0], s.Root, map[string]any{"value": strings.Replace(value, `"c"`, `"d"`, 1)})
	}
	s.check("moved", 1, 1, 0)
	if got := arcatest.Dig(s.Must("GET", "moved/a", s.Root, nil), "data", "b"); got != "d" {
		t.Errorf("read %v", got)
	}
	s.Must("POST", "sys/raw/elsewhere", s.Root, map[string]any{"value": "x"})
	if record, err := s.store.Get(t.Context(), "elsewhere"); err != nil || record[0] != 1 {
		t.Errorf("what belongs to no mount: %q, %v", record, err)
	}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	s := newWrapServer(t, core.Config{Seals: withSeal, DisableSealWrap: true})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	s.Must("POST", "sys/namespaces/ns", s.Root, nil)
	s.Must("POST", "ns/sys/mounts/kv", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	s.Must("POST", "ns/kv/a", s.Root, map[string]any{"b": "c"})
	const values = 300
	for i := range values {
		s.Must("POST", fmt.Sprintf("kv/%d", i), s.Root, map[string]any{"b": "c"})
	}
	if code, _ := s.Do("GET", "ns/sys/sealwrap/rewrap", s.Root, nil); code != 404 && code != 400 {
		t.Errorf("in a namespace: %d", code)
	}
	if p, ok, bad := s.rewrapped(); p != 0 || ok != 0 || bad != 0 {
		t.Errorf("before any: %d, %d, %d", p, ok, bad)
	}
	s.check("kv", values, 0, 0)

	on := &wrapServer{arcatest.New(t, arcatest.Config{Backend: notClosed{s.store}, Sealed: true, Core: core.Config{Seals: withSeal}}), t, s.store}
	on.Root = s.Root
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	on.Unseal()
	on.check("kv", values, 0, values)
	if p, ok, bad := on.rewrap(); p != values+1 || ok != values+1 || bad != 0 {
		t.Errorf("wrapped: %d, %d, %d", p, ok, bad)
	}
	on.check("kv", values, values, 0)
	// Again while values are written; the last one written counts.
	var work sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("kv/%d", (i*3+w)%values)
				on.Must("POST", path, on.Root, map[string]any{"b": i})
				if got := arcatest.Dig(on.Must("GET", path, on.Root, nil), "data", "b"); fmt.Sprint(got) != strconv.Itoa(i) {
					t.Errorf("%s: wrote %d, read %v", path, i, got)
				}
			}
		})
	}
	for range 3 {
		if _, _, bad := on.rewrap(); bad != 0 {
			t.Errorf("%d failed", bad)
		}
	}
	close(stop)
	work.Wait()
	on.check("kv", values, values, 0)
	// One that is running goes on after a restart, and none begins beside it.
	ctx := context.Background()
	version := on.version()
	begun := func() {
		t.Helper()
		if err := on.Core.Active().DB.Update(ctx, func(tx storage.Tx) error {
			return tx.Put("n/root/sealwrap/rewrap", fmt.Appendf(nil, `{"running":true,"after":%d,"started":"2026-01-02T03:04:05Z"}`, version))
		}); err != nil {
			t.Fatal(err)
		}
	}
	begun()
	if code, body := on.Do("POST", "sys/sealwrap/rewrap", on.Root, nil); code != 200 {
		t.Errorf("beside another: %d %v", code, body)
	}
	// A value that is damaged is counted, and left.
	damaged := ""
	for kv := range on.each("kv") {
		damaged = kv[0]
	}
	record := bytes.Repeat([]byte{2}, 100)
	if err := s.store.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: damaged, Value: record}}); err != nil {
		t.Fatal(err)
	}
	on.Restart()
	if p, ok, bad := on.rewrapped(); p != values+1 || ok != values || bad != 1 {
		t.Errorf("with one that is damaged: %d, %d, %d", p, ok, bad)
	}
	begun() // once more, as if it had ended when the version was made
	on.Restart()
	if p, ok, bad := on.rewrapped(); p != 1 || ok != 0 || bad != 1 {
		t.Errorf("with the version that is there: %d, %d, %d", p, ok, bad)
	}
	if now := on.version(); now != version+1 {
		t.Errorf("version %d after %d: it was made twice, or never", now, version)
	}
	if now, err := s.store.Get(ctx, damaged); err != nil || !bytes.Equal(now, record) {
		t.Errorf("the damaged one is now %x, %v", now, err)
	}
	on.Must("DELETE", "sys/mounts/kv", on.Root, nil)
	if p, ok, bad := on.rewrap(); p != 1 || ok != 1 || bad != 0 {
		t.Errorf("when the mount is gone: %d, %d, %d", p, ok, bad)
	}
}

// notClosed is a store that another server closes.
type notClosed struct{ storage.Backend }

func (notClosed) Close() error { return nil }

// narrow is a store that takes no value of more bytes than most.
type narrow struct {
	notClosed
	most int
}

func (n narrow) Apply(ctx context.Context, b storage.Batch) error {
	for _, op := range b {
		if len(op.Value) > n.most {
			return errs.New(errs.TooLarge, "a value of %d bytes: %w", len(op.Value), storage.ErrNotApplied)
		}
	}
	return n.Backend.Apply(ctx, b)
}

// Values that are too large for one transaction get one each, and one that grows too large by the seal's layer has failed.
func TestRewrapOfLargeValues(t *testing.T) {
	t.Parallel()
	limits := storage.Config{MaxTxBytes: 1 << 20}
	s := newWrapServer(t, core.Config{Seals: withSeal, DisableSealWrap: true, DB: limits})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	for name, size := range map[string]int{"a": 400 << 10, "b": 700 << 10, "c": 10, "d": 800 << 10, "e": 10} {
		s.Must("POST", "kv/"+name, s.Root, map[string]any{"b": strings.Repeat("x", size)})
	}
	most := 0
	for kv := range s.each("kv") {
		most = max(most, len(kv[1]))
	}
	on := &wrapServer{arcatest.New(t, arcatest.Config{
		Backend: narrow{notClosed{s.store}, most}, Sealed: true, Core: core.Config{Seals: withSeal, DB: limits},
	}), t, s.store}
	on.Root = s.Root
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	on.Unseal()
	if p, ok, bad := on.rewrap(); p != 5 || ok != 4 || bad != 1 {
		t.Errorf("%d, %d, %d", p, ok, bad)
	}
	on.check("kv", 5, 4, 1)
}

// age has a store be as a release before seal wrap left it, which once found that no mount had seal_wrap.
func (s *wrapServer) age() {
	s.t.Helper()
	raw, err := s.store.Get(s.t.Context(), "seal/config")
	if err != nil {
		s.t.Fatal(err)
	}
	c := map[string]any{}
	if err := json.Unmarshal(raw, &c); err != nil {
		s.t.Fatal(err)
	}
	under := c["wrapped"].([]any)[0].(map[string]any)
	whole, err := base64.StdEncoding.DecodeString(under["root"].(string))
	if err != nil {
		s.t.Fatal(err)
	}
	under["root"] = whole[:barrier.KeyBytes] // mirrorSeal keeps bytes in their places
	delete(under, "both")
	c["version"] = 1
	if raw, err = json.Marshal(c); err != nil {
		s.t.Fatal(err)
	}
	err = s.store.Apply(s.t.Context(), storage.Batch{{Kind: storage.Put, Key: "seal/config", Value: raw}, {Kind: storage.Delete, Key: barrier.WrapRecordKey}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// A server of an older release led after this one had found that no mount has seal_wrap, and made one.
func TestSealWrapAfterAnOlderRelease(t *testing.T) {
	t.Parallel()
	s := newWrapServer(t, core.Config{Seals: withSeal, DisableSealWrap: true})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	s.Must("POST", "kv/a", s.Root, map[string]any{"b": "c"})
	if err := s.Core.Active().DB.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("n/root/sealwrap/unwanted", []byte{1}) }); err != nil {
		t.Fatal(err)
	}
	on := &wrapServer{arcatest.New(t, arcatest.Config{Backend: notClosed{s.store}, Sealed: true, Core: core.Config{Seals: withSeal}}), t, s.store}
	on.Root = s.Root
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	s.age()
	on.Unseal()
	if p, ok, bad := on.rewrap(); p != 1 || ok != 1 || bad != 0 {
		t.Errorf("%d, %d, %d", p, ok, bad)
	}
	on.check("kv", 1, 1, 0)
}

// A node that lacks the key refuses what would be wrapped, and nothing else that is written at the same time.
func TestSealWrapWithoutKey(t *testing.T) {
	t.Parallel()
	s := newWrapServer(t, core.Config{Seals: withSeal})
	s.Must("POST", "sys/mounts/wrapped", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	s.Must("POST", "sys/mounts/plain", s.Root, map[string]any{"type": "kv"})
	if err := s.store.Apply(t.Context(), storage.Batch{{Kind: storage.Delete, Key: barrier.WrapRecordKey}}); err != nil {
		t.Fatal(err)
	}
	s.Core.Active().Ring.UseWrap(nil, true)
	var work sync.WaitGroup
	for w := range 4 {
		for path, want := range map[string]int{"wrapped": 503, "plain": 204} {
			work.Go(func() {
				for i := range 50 {
					if code, body := s.Do("POST", fmt.Sprintf("%s/%d-%d", path, w, i), s.Root, map[string]any{"b": "c"}); code != want {
						t.Errorf("%s: %d %v", path, code, body)
						return
					}
				}
			})
		}
	}
	work.Wait()
}

// With a Shamir seal nothing is wrapped, as in Vault.
func TestSealWrapWithShamir(t *testing.T) {
	t.Parallel()
	s := newWrapServer(t, core.Config{})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv", "seal_wrap": true})
	s.Must("POST", "kv/a", s.Root, map[string]any{"b": "c"})
	s.check("kv", 1, 0, 0)
	if p, ok, bad := s.rewrap(); p != 0 || ok != 0 || bad != 0 {
		t.Errorf("%d, %d, %d", p, ok, bad)
	}
}
