// Package kmstand has stand-ins for the key services of Amazon, Microsoft and Google,
// for tests of managed keys. They speak the services' wire protocols as documented, as
// far as is asked here, and no more: they are no KMS, and say so in each answer.
package kmstand

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Moods of a service.
const (
	Well     = ""
	Down     = "down"     // answers 503
	Hangs    = "hangs"    // does not answer
	Lies     = "lies"     // signs something else
	Babbles  = "babbles"  // answers what is no JSON
	Throttle = "throttle" // has enough
	Forbids  = "forbids"
	Empty    = "empty"   // answers {}
	Floods   = "floods"  // answers with signatures and plaintexts of 2,000 bytes
	Rambles  = "rambles" // the same of 64 bytes, with 20,000 spaces behind them
	Tells    = "tells"   // refuses with a secret as its code
	Forgets  = "forget"  // does what it is asked, and answers 500 when that was a name for a key
)

// A Service is a stand-in.
type Service struct {
	URL  string
	stop chan struct{}

	mu    sync.Mutex
	mood  string         // guarded by mu, as is the rest
	keys  map[string]Key // by the service's id
	alias map[string]string
	calls map[string]int
	made  int
	seen  []string // headers Authorization
}

// A Key is one that a service keeps.
type Key struct {
	Private crypto.Signer
	Usage   string // as the service calls it
	Gone    bool
}

// start makes a service that ends with the test.
func start(tb testing.TB, title string, serve func(s *Service, w http.ResponseWriter, r *http.Request, body []byte)) *Service {
	tb.Helper()
	s := &Service{keys: map[string]Key{}, alias: map[string]string{}, calls: map[string]int{}, stop: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "arca test stand-in for "+title)
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // what came suffices
		s.mu.Lock()
		mood := s.mood
		s.seen = append(s.seen, r.Header.Get("Authorization"))
		s.mu.Unlock()
		switch mood {
		case Down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case Hangs:
			select {
			case <-r.Context().Done():
			case <-s.stop:
			}
		case Babbles:
			_, _ = io.WriteString(w, "<html>it works!</html>")
		case Empty:
			_, _ = io.WriteString(w, "{}")
		case Floods:
			values(w, 2000)
			_, _ = io.WriteString(w, "}")
		case Rambles:
			values(w, 64)
			_, _ = io.WriteString(w, strings.Repeat(" ", 20000)+"}")
		case Tells:
			answer(w, http.StatusBadRequest, map[string]any{"__type": "TopSecretOfSomebody", "error": map[string]string{"status": "TopSecretOfSomebody"}})
		default:
			serve(s, w, r, body)
		}
	}))
	s.URL = server.URL
	tb.Cleanup(func() { close(s.stop); server.Close() })
	return s
}

// values begins an answer that has a value under all the names that the services use.
func values(w io.Writer, n int) {
	raw, _ := json.Marshal(make([]byte, n)) // cannot fail
	_, _ = fmt.Fprintf(w, `{"Signature":%[1]s,"Plaintext":%[1]s,"value":"%[2]s"`, raw, strings.Repeat("A", n/3*4))
}

// Mood changes how the service behaves.
func (s *Service) Mood(m string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

// Calls is how often something was asked for.
func (s *Service) Calls(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

// Seen are the headers Authorization that came.
func (s *Service) Seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen, "\n")
}

// Add gives the service a key, under an id and, unless it is empty, an alias.
func (s *Service) Add(id, alias, usage string, key crypto.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = Key{Private: key, Usage: usage}
	if alias != "" {
		s.alias[alias] = id
	}
}

// Live is how many keys there are that are not about to be deleted.
func (s *Service) Live() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if !k.Gone {
			n++
		}
	}
	return n
}

// key finds one by its id or alias.
func (s *Service) key(name string) (id string, k Key, ok bool) {
	if to := s.alias[name]; to != "" {
		name = to
	}
	k, ok = s.keys[name]
	return name, k, ok
}

// answer writes JSON.
func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that went away
}

// RSA makes an RSA key.
func RSA(tb testing.TB, bits int) *rsa.PrivateKey {
	tb.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// EC makes a key over a curve.
func EC(tb testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// generate makes the key that a service's own word describes.
func generate(spec string) (crypto.Signer, error) {
	for curve, c := range map[string]elliptic.Curve{"P256": elliptic.P256(), "P384": elliptic.P384(), "P521": elliptic.P521()} {
		if strings.Contains(spec, curve) {
			return ecdsa.GenerateKey(c, rand.Reader)
		}
	}
	for name, bits := range map[string]int{"2048": 2048, "3072": 3072, "4096": 4096} {
		if strings.Contains(spec, name) {
			return rsa.GenerateKey(rand.Reader, bits)
		}
	}
	return nil, fmt.Errorf("no such key: %q", spec)
}

// sign signs as a service's word for the algorithm says. A liar signs something else.
func (s *Service) sign(k crypto.Signer, algorithm string, digest []byte) ([]byte, error) {
	hash := map[bool]crypto.Hash{
		strings.Contains(algorithm, "256"): crypto.SHA256, strings.Contains(algorithm, "384"): crypto.SHA384, strings.Contains(algorithm, "512"): crypto.SHA512,
	}[true]
	if hash == 0 || len(digest) != hash.Size() {
		return nil, fmt.Errorf("the digest does not fit %q", algorithm)
	}
	if s.mood == Lies {
		other := sha256.Sum256([]byte("something else"))
		digest = append(other[:], other[:]...)[:hash.Size()]
	}
	var opts crypto.SignerOpts = hash
	if strings.Contains(algorithm, "PSS") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return k.Sign(rand.Reader, digest, opts)
}
