package managed

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "hsm-key1": true, "a.b_c": true, "_a": true, "": false, "A": false, "-a": false, "a-": false, "a/b": false, "ä": false, ".": false,
		strings.Repeat("a", maxNameBytes+1): false,
	} {
		if err := checkName(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseUsages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want []string }{
		{nil, []string{"sign", "verify"}},
		{[]string{" Encrypt", "decrypt", "encrypt"}, []string{"encrypt", "decrypt"}},
		{[]string{"random", "mac", "wrap", "unwrap", "sign", "verify"}, []string{"generate_random", "mac", "wrap", "unwrap", "sign", "verify"}},
		{[]string{"sing"}, nil},
		{[]string{""}, nil},
	} {
		got, err := ParseUsages(c.in)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%v: got %v, %v, want %v", c.in, got, err, c.want)
		}
	}
}

// FuzzParseUsages: what is read is read again as the same.
func FuzzParseUsages(f *testing.F) {
	f.Add("sign,verify")
	f.Add("random, mac")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseUsages(strings.Split(text, ","))
		if err != nil {
			return
		}
		if again, err := ParseUsages(got); err != nil || !slices.Equal(got, again) {
			t.Errorf("%q: %v, then %v, %v", text, got, again, err)
		}
	})
}

func TestKeysAreSilent(t *testing.T) {
	t.Parallel()
	k := Key{Name: "k", Params: map[string]string{"pin": "topsecret"}}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	if text := fmt.Sprint(k) + fmt.Sprintf("%v %+v %s", k, k, k) + log.String(); strings.Contains(text, "topsecret") {
		t.Errorf("a key prints %s", text)
	}
}

// What is decoded is a key of ours, or an error that does not show it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"i","name":"n","type":"awskms","usages":["sign"],"params":{"pin":"1"}}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, size, err := decode("n/root/managed/k/awskms/n", raw)
		if err == nil && (o.Form != form || size < len(raw)) {
			t.Errorf("%d bytes, form %d", size, o.Form)
		}
	})
}

// What is stored can be cached, whatever its parameters are.
func TestEncode(t *testing.T) {
	t.Parallel()
	k := Key{Form: form, ID: "i", Name: "n", Type: AWS, Params: map[string]string{"endpoint": strings.Repeat("<", maxParamBytes)}}
	raw, err := encode(&k)
	if err != nil || len(raw) > maxParamBytes+200 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	o, size, err := decode("k", raw)
	if err != nil || o.Params["endpoint"] != k.Params["endpoint"] || size > cacheBytes/16 {
		t.Errorf("decoded: %d bytes, %v", size, err)
	}
	k.Params["endpoint"] = strings.Repeat("\x01", maxParamBytes)
	if raw, err := encode(&k); err == nil {
		t.Errorf("%d bytes were taken", len(raw))
	}
}
