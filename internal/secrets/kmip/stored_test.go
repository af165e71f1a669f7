package kmip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"arca/internal/ttlv"
)

// exampleObject has what records can have.
func exampleObject() *object {
	o := &object{ID: "an id", Type: ttlv.ObjectTypeSymmetricKey, Order: "0001", Erase: 1_700_000_000, Forget: -1, Next: 7}
	for _, k := range kinds {
		o.Attrs = append(o.Attrs, newAttribute(k.name, ttlv.Text(0, k.name)))
	}
	for _, name := range []string{"x-own", "y-ours", "", "Certificate Subject CN", vendorName("acme", "shelf"), "an attribute that is gone"} {
		o.Attrs = append(o.Attrs, newAttribute(name, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, name), ttlv.Int(ttlv.TagCryptographicLength, -1))))
	}
	for i := range o.Attrs {
		o.Attrs[i].Index = int32(i * i)
		o.Attrs[i].Value = o.Attrs[i].appendValue(nil) // as in one that was read
	}
	o.Attrs[0].Index = templateIndex + 3
	return o
}

// same compares what is kept.
func sameObject(a, b *object) bool {
	c, d := *a, *b
	c.Attrs, d.Attrs = nil, nil
	if !reflect.DeepEqual(c, d) || len(a.Attrs) != len(b.Attrs) {
		return false
	}
	for i := range a.Attrs {
		if a.Attrs[i].Name != b.Attrs[i].Name || a.Attrs[i].Index != b.Attrs[i].Index || !bytes.Equal(a.Attrs[i].Value, b.Attrs[i].Value) || !bytes.Equal(a.Attrs[i].node().Encode(), b.Attrs[i].node().Encode()) {
			return false
		}
	}
	return true
}

// A record is read as it was written; so is one of version 1, which was JSON. What is cut or
// has more than it should is refused.
func TestStoredObject(t *testing.T) {
	t.Parallel()
	o := exampleObject()
	raw := o.encode()
	back, size, err := decodeObject("o", raw)
	if err != nil || !sameObject(o, back) || size < len(raw) {
		t.Fatalf("%v: %v", back, err)
	}
	first, err := json.Marshal(struct {
		Version int `json:"v"`
		*object
	}{1, o})
	if err != nil {
		t.Fatal(err)
	}
	if back, _, err := decodeObject("o", first); err != nil || !sameObject(o, back) {
		t.Fatalf("version 1: %v, %v", back, err)
	}
	for n := range len(raw) {
		if _, _, err := decodeObject("o", raw[:n]); err == nil {
			t.Errorf("%d of %d bytes are a record", n, len(raw))
		}
	}
	for what, bad := range map[string][]byte{"more": append(bytes.Clone(raw), 0), "nothing": nil, "another version": append([]byte{3}, raw[1:]...), "no JSON": []byte("{")} {
		if _, _, err := decodeObject("o", bad); err == nil {
			t.Errorf("%s: it is a record", what)
		}
	}
	if empty := (&object{}); !sameObject(empty, mustParse(t, empty.encode())) {
		t.Error("an empty object")
	}
}

func mustParse(t *testing.T, raw []byte) *object {
	t.Helper()
	o, err := parseObject("o", raw)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// No attribute is kept by the tag of another.
func TestStoredNames(t *testing.T) {
	t.Parallel()
	seen := map[ttlv.Tag]string{}
	for _, k := range kinds {
		tag := tagFor(k.name)
		if tag == 0 {
			continue
		}
		if other, ok := seen[tag]; ok {
			t.Errorf("%q and %q are one", other, k.name)
		}
		seen[tag] = k.name
		if kindsByTag[tag].name != k.name {
			t.Errorf("%q comes back as %q", k.name, kindsByTag[tag].name)
		}
	}
}

func FuzzStoredObject(f *testing.F) {
	f.Add(exampleObject().encode())
	f.Add((&object{}).encode())
	f.Add([]byte(`{"v":1,"id":"a","t":2,"a":[{"n":"Name","v":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, _, err := decodeObject("o", raw)
		if err != nil {
			return
		}
		if back, _, err := decodeObject("o", o.encode()); err != nil || !sameObject(o, back) {
			t.Fatalf("%x came back as %v, %v", raw, back, err)
		}
	})
}

// The names of keys in the store do not change.
func TestHashed(t *testing.T) {
	t.Parallel()
	for want, parts := range map[string][]string{
		"e3b0c44298fc1c149afbf4c8996fb924": nil, "ba768b331fd86cec803be04e56ab2b3d": {""}, "f3631d94ecd9c114db209be219422343": {"Name", "key-1"},
	} {
		if got := hashed(parts...); got != want {
			t.Errorf("%q: %s, want %s", parts, got, want)
		}
	}
	long := strings.Repeat("x", 1000)
	if sum := sha256.Sum256([]byte("1000:" + long)); hashed(long) != hex.EncodeToString(sum[:16]) {
		t.Error("a long one")
	}
}
