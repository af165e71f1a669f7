package transit

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"arca/internal/engine"
)

// Every ciphertext ever made can be read, whatever is done to its key meanwhile:
// rotation, rewrapping, backup and restore, configuration, soft deletion, export
// to another name. The seed is printed.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{b: newBench(t), r: rand.New(rand.NewPCG(seed, 0)), keys: map[string]*modelKey{}}
			for range 400 {
				m.step()
			}
			m.checkAll()
		})
	}
}

type model struct {
	b    *bench
	r    *rand.Rand
	keys map[string]*modelKey
	made int
}

// A modelKey is what must be true of a key.
type modelKey struct {
	typ     string
	context bool
	latest  int
	min     int
	sealed  []sealed
}

type sealed struct {
	text, plain, context string
	version              int
}

func (m *model) pick() (string, *modelKey) {
	names := []string{"a", "b", "c", "d"}
	name := names[m.r.IntN(len(names))]
	k := m.keys[name]
	if k == nil {
		types := []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "ml-kem-768"}
		k = &modelKey{typ: types[m.r.IntN(len(types))], latest: 1, min: 1}
		k.context = k.typ != "ml-kem-768" && m.r.IntN(2) == 0
		m.b.post("keys/"+name, "type", k.typ, "derived", k.context, "convergent_encryption", k.context && m.r.IntN(2) == 0,
			"exportable", true, "allow_plaintext_backup", true)
		m.keys[name] = k
	}
	return name, k
}

func (k *modelKey) contextOf(m *model) string {
	if !k.context {
		return ""
	}
	return b64(fmt.Sprint("context ", m.r.IntN(3)))
}

func (m *model) step() {
	name, k := m.pick()
	switch m.r.IntN(9) {
	case 0, 1, 2: // encrypt with a version that may be used
		m.made++
		s := sealed{plain: b64(fmt.Sprint("text ", m.made)), context: k.contextOf(m)}
		version := 0
		if m.r.IntN(3) == 0 {
			version = k.min + m.r.IntN(k.latest-k.min+1)
		}
		got := m.b.post("encrypt/"+name, "plaintext", s.plain, "context", s.context, "key_version", version)
		s.text = str(got, "ciphertext")
		if s.version = version; version == 0 {
			s.version = k.latest
		}
		k.sealed = append(k.sealed, s)
	case 3:
		m.b.post("keys/" + name + "/rotate")
		k.latest++
	case 4: // rewrap one
		if len(k.sealed) > 0 {
			s := &k.sealed[m.r.IntN(len(k.sealed))]
			if s.version >= k.min {
				s.text = str(m.b.post("rewrap/"+name, "ciphertext", s.text, "context", s.context), "ciphertext")
				s.version = k.latest
			}
		}
	case 5: // back up, delete, restore
		backup := m.b.must(engine.OpRead, "backup/"+name, "")["backup"]
		m.b.post("keys/"+name+"/config", "deletion_allowed", true)
		m.b.must(engine.OpDelete, "keys/"+name, "")
		m.b.post("restore", "backup", backup)
	case 6: // raise the minimum, or lower it again
		k.min = 1 + m.r.IntN(k.latest)
		m.b.post("keys/"+name+"/config", "min_decryption_version", k.min)
	case 7:
		m.b.must(engine.OpDelete, "keys/"+name+"/soft-delete", "")
		m.b.post("keys/" + name + "/soft-delete-restore")
	case 8:
		m.check(name, k)
	}
}

// check reads all ciphertexts of a key, in one batch and each by itself.
func (m *model) check(name string, k *modelKey) {
	m.b.t.Helper()
	var batch []map[string]any
	for _, s := range k.sealed {
		batch = append(batch, map[string]any{"ciphertext": s.text, "context": s.context})
		res, err := m.b.do(engine.OpUpdate, "decrypt/"+name, object(m.b.t, "ciphertext", s.text, "context", s.context))
		switch {
		case (err == nil) != (s.version >= k.min):
			m.b.t.Fatalf("%s: version %d, minimum %d: %v", name, s.version, k.min, err)
		case err == nil && str(m.b.data(res), "plaintext") != s.plain:
			m.b.t.Fatalf("%s: version %d: %v, want %s", name, s.version, res, s.plain)
		}
	}
	if len(batch) == 0 {
		return
	}
	results, _ := m.b.post("decrypt/"+name, "batch_input", batch)["batch_results"].([]any)
	for i, s := range k.sealed {
		r, _ := results[i].(map[string]any)
		if s.version >= k.min && str(r, "plaintext") != s.plain || s.version < k.min && str(r, "error") == "" {
			m.b.t.Fatalf("%s: item %d of the batch: %v", name, i, r)
		}
	}
}

func (m *model) checkAll() {
	for name, k := range m.keys {
		m.b.post("keys/"+name+"/config", "min_decryption_version", 1)
		k.min = 1
		m.check(name, k)
	}
}
