package kv

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
)

const (
	read, list, update = engine.OpRead, engine.OpList, engine.OpUpdate
	patch, del         = engine.OpPatch, engine.OpDelete
)

// names lists the names directly below a folder.
func names(paths []string, folder string) (out []string) {
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, folder); ok && rest != "" {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var modelPaths = []string{"a", "a/b", "a/c", "a/b/c", "b", "ab", "a.b", "z/z/z"}

// listed compares a listing, or a page of it, with the names that must be there.
func (b *bench) listed(rng *rand.Rand, prefix string, paths []string) {
	b.t.Helper()
	folder := []string{"", "a/", "a/b/", "z/", "none/"}[rng.IntN(5)]
	want := names(paths, folder)
	body := ""
	if rng.IntN(2) == 0 {
		after, limit := "", rng.IntN(3)
		if len(want) > 0 {
			after = want[rng.IntN(len(want))]
		}
		body = fmt.Sprintf(`{"after":%q,"limit":%d}`, after, limit)
		want = slices.DeleteFunc(want, func(n string) bool { return n <= after })
		if limit > 0 && len(want) > limit {
			want = want[:limit]
		}
	}
	res, err := b.do(list, prefix+folder, body)
	if len(want) == 0 {
		if !errs.Is(err, errs.NotFound) {
			b.t.Fatalf("list %s%s %s: %v, want not found", prefix, folder, body, err)
		}
		return
	}
	if err != nil {
		b.t.Fatalf("list %s%s %s: %v", prefix, folder, body, err)
	}
	if got := fmt.Sprint(b.data(res)["keys"]); got != fmt.Sprint(want) {
		b.t.Fatalf("list %s%s %s: got %s, want %s", prefix, folder, body, got, want)
	}
}

func seeds(t *testing.T, n int, fn func(t *testing.T, seed uint64)) {
	t.Helper()
	for range n {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			fn(t, seed)
		})
	}
}

// Version 1 is a map.
func TestModelV1(t *testing.T) {
	t.Parallel()
	seeds(t, 4, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, v1{})
		model := map[string]string{}
		for range 600 {
			p := modelPaths[rng.IntN(len(modelPaths))]
			switch rng.IntN(5) {
			case 0, 1:
				v := fmt.Sprintf(`{"path":"x","v":%d}`, rng.IntN(1000))
				b.must(update, p, v)
				model[p] = v
			case 2:
				b.must(del, p, "")
				delete(model, p)
			case 3:
				want := "not found: not found"
				if v, ok := model[p]; ok {
					want = v
				}
				if got := b.text(read, p, ""); got != want {
					t.Fatalf("%s is %s, want %s", p, got, want)
				}
			case 4:
				b.listed(rng, "", slices.Collect(maps.Keys(model)))
			}
		}
	})
}

// A secret of version 2 as its documentation describes it.
type (
	modelSecret struct {
		current  int
		versions map[int]*modelVersion
		max      int
		cas      bool
		after    time.Duration
		custom   map[string]string
	}
	modelVersion struct {
		data      string
		deleted   time.Time
		destroyed bool
	}
	model struct {
		t       *testing.T
		b       *bench
		rng     *rand.Rand
		secrets map[string]*modelSecret
		max     int
		cas     bool
		after   time.Duration
	}
)

func (m *model) limit(s *modelSecret) int {
	if n := max(m.max, s.max); n > 0 {
		return n
	}
	return 10
}

func (m *model) deletion(s *modelSecret) time.Time {
	var after time.Duration
	switch {
	case m.after < 0:
		return time.Time{}
	case m.after == 0:
		after = s.after
	case s.after == 0:
		after = m.after
	default:
		after = min(m.after, s.after)
	}
	if after == 0 {
		return time.Time{}
	}
	return m.b.now.Add(after)
}

func (m *model) gone(v *modelVersion) bool {
	return v.destroyed || !v.deleted.IsZero() && !m.b.now.Before(v.deleted)
}

// write tells what a write or patch must come to, and does it in the model.
func (m *model) write(p, data string, cas *int, patched bool) (want string) {
	s := m.secrets[p]
	if s == nil {
		s = &modelSecret{versions: map[int]*modelVersion{}}
	}
	if patched {
		v := s.versions[s.current]
		switch {
		case v == nil:
			return "raw"
		case m.gone(v):
			return "missing"
		}
		data = merge(v.data, data)
	}
	switch {
	case cas == nil && (m.cas || s.cas):
		return "invalid: check-and-set parameter required for this call"
	case cas != nil && *cas != s.current:
		return "invalid: check-and-set parameter did not match the current version"
	}
	s.current++
	s.versions[s.current] = &modelVersion{data: data, deleted: m.deletion(s)}
	for n := range s.versions {
		if n <= s.current-m.limit(s) {
			delete(s.versions, n)
		}
	}
	m.secrets[p] = s
	return "version " + strconv.Itoa(s.current)
}

// merge is a merge patch of objects without depth.
func merge(target, patch string) string {
	var t, p map[string]any
	_ = json.Unmarshal([]byte(target), &t) // the test's own text
	_ = json.Unmarshal([]byte(patch), &p)
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = v
		}
	}
	raw, _ := json.Marshal(t)
	return string(raw)
}

func (m *model) step() {
	p := modelPaths[m.rng.IntN(len(modelPaths))]
	s := m.secrets[p]
	n := m.rng.IntN(6)
	some := []int{m.rng.IntN(8), m.rng.IntN(8)}
	versions := fmt.Sprintf(`{"versions":[%d,"%d"]}`, some[0], some[1])
	each := func(fn func(v *modelVersion)) {
		if s == nil {
			return
		}
		for _, n := range some {
			if v := s.versions[n]; v != nil && !v.destroyed {
				fn(v)
			}
		}
	}
	switch m.rng.IntN(14) {
	case 0, 1, 2, 3:
		var cas *int
		options := ""
		if m.rng.IntN(2) == 0 {
			c := m.rng.IntN(4)
			if s != nil && m.rng.IntN(3) > 0 {
				c = s.current
			}
			cas, options = &c, fmt.Sprintf(`,"options":{"cas":%d}`, c)
		}
		if m.rng.IntN(4) == 0 {
			data := []string{`{"b":2}`, `{"a":null}`, `{"a":5,"c":"x"}`}[m.rng.IntN(3)]
			m.wrote(patch, p, `{"data":`+data+options+`}`, m.write(p, data, cas, true))
			return
		}
		data := fmt.Sprintf(`{"a":%d}`, m.rng.IntN(1000))
		m.wrote(update, p, `{"data":`+data+options+`}`, m.write(p, data, cas, false))
	case 4, 5:
		m.reads(p, s, n)
	case 6:
		if s != nil {
			if v := s.versions[s.current]; v != nil && !m.gone(v) {
				v.deleted = m.b.now
			}
		}
		m.b.must(del, "data/"+p, "")
	case 7:
		each(func(v *modelVersion) {
			if !m.gone(v) {
				v.deleted = m.b.now
			}
		})
		m.b.must(update, "delete/"+p, versions)
	case 8:
		each(func(v *modelVersion) { v.deleted = m.deletion(s) })
		m.b.must(update, "undelete/"+p, versions)
	case 9:
		each(func(v *modelVersion) { v.destroyed = true })
		m.b.must(update, "destroy/"+p, versions)
	case 10:
		m.meta(p, s)
	case 11:
		m.max, m.cas = m.rng.IntN(4), m.rng.IntN(4) == 0
		m.after = []time.Duration{0, time.Hour, -time.Hour}[m.rng.IntN(3)]
		m.b.must(update, "config", fmt.Sprintf(`{"max_versions":%d,"cas_required":%t,"delete_version_after":"%s"}`, m.max, m.cas, m.after))
	case 12:
		m.b.now = m.b.now.Add(time.Duration(m.rng.IntN(40)) * time.Minute)
	case 13:
		m.b.listed(m.rng, "metadata/", slices.Collect(maps.Keys(m.secrets)))
	}
}

func (m *model) wrote(op engine.Operation, p, body, want string) {
	m.t.Helper()
	res, err := m.b.do(op, "data/"+p, body)
	var got string
	switch {
	case err != nil:
		got = errs.KindOf(err).String() + ": " + err.Error()
	case res.Raw != nil:
		got = "raw"
	case res.Missing:
		got = "missing"
	default:
		got = fmt.Sprint("version ", m.b.data(res)["version"])
	}
	if got != want {
		m.t.Fatalf("%s %s %s: got %s, want %s", op, p, body, got, want)
	}
}

func (m *model) reads(p string, s *modelSecret, n int) {
	m.t.Helper()
	res, err := m.b.do(read, "data/"+p, fmt.Sprintf(`{"version":%d}`, n))
	var v *modelVersion
	if s != nil {
		if n == 0 {
			n = s.current
		}
		v = s.versions[n]
	}
	if v == nil {
		if !errs.Is(err, errs.NotFound) {
			m.t.Fatalf("%s version %d: %v, want not found", p, n, err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	got := m.b.data(res)
	raw, _ := json.Marshal(got["data"])
	want := v.data
	if m.gone(v) {
		want = "null"
	}
	if string(raw) != want || res.Missing != m.gone(v) {
		m.t.Fatalf("%s version %d: got %s, want %s", p, n, raw, want)
	}
	meta, _ := got["metadata"].(map[string]any)
	if meta["version"] != float64(n) || meta["destroyed"] != v.destroyed || (meta["deletion_time"] == "") != v.deleted.IsZero() {
		m.t.Fatalf("%s version %d: metadata %v, want %+v", p, n, meta, v)
	}
}

func (m *model) meta(p string, s *modelSecret) {
	m.t.Helper()
	switch m.rng.IntN(4) {
	case 0:
		m.b.must(del, "metadata/"+p, "")
		delete(m.secrets, p)
	case 1, 2:
		if s == nil {
			s = &modelSecret{versions: map[int]*modelVersion{}}
			m.secrets[p] = s
		}
		s.max, s.cas = m.rng.IntN(4), m.rng.IntN(4) == 0
		s.after = []time.Duration{0, 30 * time.Minute}[m.rng.IntN(2)]
		s.custom = map[string]string{"k": strconv.Itoa(m.rng.IntN(9))}
		m.b.must(update, "metadata/"+p, fmt.Sprintf(`{"max_versions":%d,"cas_required":%t,"delete_version_after":"%s","custom_metadata":{"k":%q}}`,
			s.max, s.cas, s.after, s.custom["k"]))
	case 3:
		res, err := m.b.do(read, "metadata/"+p, "")
		if s == nil {
			if !errs.Is(err, errs.NotFound) {
				m.t.Fatalf("metadata of %s: %v, want not found", p, err)
			}
			return
		}
		if err != nil {
			m.t.Fatal(err)
		}
		got := m.b.data(res)
		versions, _ := got["versions"].(map[string]any)
		want := map[string]bool{}
		for n := range s.versions {
			want[strconv.Itoa(n)] = true
		}
		if len(versions) != len(want) || got["current_version"] != float64(s.current) || got["max_versions"] != float64(s.max) {
			m.t.Fatalf("metadata of %s: %v, want %+v", p, got, s)
		}
		for n := range versions {
			if !want[n] {
				m.t.Fatalf("metadata of %s has version %s: %v", p, n, got)
			}
		}
	}
}

func TestModelV2(t *testing.T) {
	t.Parallel()
	seeds(t, 6, func(t *testing.T, seed uint64) {
		m := &model{t: t, b: newBench(t, v2{}), rng: rand.New(rand.NewPCG(seed, 2)), secrets: map[string]*modelSecret{}}
		for range 1500 {
			m.step()
		}
		// Nothing is left of what is gone for ever.
		for _, p := range modelPaths {
			m.b.must(del, "metadata/"+p, "")
		}
		if keys := slices.DeleteFunc(m.b.keys(), func(k string) bool { return k == "config" }); len(keys) > 0 {
			t.Errorf("left: %q", keys)
		}
	})
}

// A mount that was upgraded from version 1 behaves like one that always was of
// version 2 and into which the secrets were written once.
func TestModelUpgraded(t *testing.T) {
	t.Parallel()
	seeds(t, 6, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := newBench(t, v1{})
		m := &model{t: t, b: b, rng: rng, secrets: map[string]*modelSecret{}}
		for i, p := range modelPaths {
			if rng.IntN(3) > 0 {
				data := fmt.Sprintf(`{"a":%d}`, i)
				b.must(update, p, data)
				m.secrets[p] = &modelSecret{current: 1, versions: map[int]*modelVersion{1: {data: data}}}
			}
		}
		b.upgrade()
		for range 800 {
			m.step()
		}
	})
}
