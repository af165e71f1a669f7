package chain

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func written(n int) []string {
	l, head := NewLink([]byte("key")), Start()
	out := make([]string, n)
	for i := range out {
		out[i] = string(l.Append(nil, &head, fmt.Appendf(nil, `{"n":%d,"t":"\"chain\":{"}`+"\n", i)))
	}
	return out
}

// What is done to a log, and what is found.
func TestVerify(t *testing.T) {
	t.Parallel()
	a, b := written(6), written(3)
	for name, c := range map[string]struct {
		files  [][]string
		faults int
		text   string
	}{
		"as written":                       {[][]string{a}, 0, ""},
		"two files":                        {[][]string{a[:2], a[2:]}, 0, ""},
		"only the later file":              {[][]string{a[3:]}, 0, "begins with record 4"},
		"a new chain":                      {[][]string{a, b}, 0, "a new chain begins"},
		"the first that is there, changed": {[][]string{{strings.Replace(a[2], `"n":2`, `"n":7`, 1), a[3]}}, 1, "not what was written"},
		"one left out":                     {[][]string{{a[0], a[2], a[3]}}, 1, "records 2 to 2"},
		"one changed":                      {[][]string{{a[0], strings.Replace(a[1], `"n":1`, `"n":7`, 1), a[2]}}, 1, "not what was written"},
		"one twice":                        {[][]string{{a[0], a[1], a[1]}}, 1, "come twice"},
		"two exchanged":                    {[][]string{{a[0], a[2], a[1], a[3]}}, 3, "are missing"},
		"one of another chain":             {[][]string{{a[0], b[1], a[1]}}, 2, "begins with record 2"},
		"one added":                        {[][]string{{a[0], `{"n":1}` + "\n", a[1]}}, 1, "in no chain"},
		"files exchanged":                  {[][]string{a[3:], a[:3]}, 1, "does not belong"},
		"cut short":                        {[][]string{{a[0], a[1][:20]}}, 1, "not whole"},
		"goes on behind one that is cut short": {
			[][]string{{a[0], a[1][:20] + "\n", a[1]}}, 1, "cut short",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := NewVerifier()
			for i, f := range c.files {
				if err := v.Read(fmt.Sprint("f", i), strings.NewReader(strings.Join(f, ""))); err != nil {
					t.Fatal(err)
				}
			}
			if v.Faults != c.faults || c.text != "" && !slices.ContainsFunc(v.Findings, func(f Finding) bool { return strings.Contains(f.Text, c.text) }) {
				t.Errorf("%d faults, %v; want %d, %q", v.Faults, v.Findings, c.faults, c.text)
			}
		})
	}
}

// Who has no key cannot make a record that holds.
func TestMac(t *testing.T) {
	t.Parallel()
	r, body, ok := Parse([]byte(written(1)[0]))
	if !ok || string(body)+"}" != `{"n":0,"t":"\"chain\":{"}` {
		t.Fatalf("%q %v", body, ok)
	}
	if !NewLink([]byte("key")).Holds(r) || NewLink([]byte("other")).Holds(r) {
		t.Error("the mac does not tell the keys apart")
	}
	r.Hash[0] ^= 1
	if NewLink([]byte("key")).Holds(r) {
		t.Error("a record with another hash holds")
	}
}

// Each chain of a log has an end that can be asked about.
func TestEnds(t *testing.T) {
	t.Parallel()
	v := NewVerifier()
	if err := v.Read("f", strings.NewReader(strings.Join(append(written(3), written(2)...), ""))); err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, r := range v.Ends() {
		sum += r.Seq
	}
	if len(v.Ends()) != 2 || sum != 5 {
		t.Errorf("%v", v.Ends())
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	lines := written(3)
	last, _, _ := Parse([]byte(lines[2]))
	for n, missing := range map[int]bool{2: true, 3: false} {
		v := NewVerifier()
		v.Expect(last.Head)
		if err := v.Read("f", strings.NewReader(strings.Join(lines[:n], ""))); err != nil {
			t.Fatal(err)
		}
		if v.Missing(last.Head) != missing {
			t.Errorf("of %d lines: missing %v", n, !missing)
		}
	}
}

// Whatever is parsed, is what Append writes.
func FuzzParse(f *testing.F) {
	for _, l := range written(2) {
		f.Add([]byte(l))
	}
	f.Add([]byte(`{"chain":{"id":"00","seq":1,"hash":"","mac":""}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, body, ok := Parse(line)
		v := NewVerifier()
		_ = v.Read("f", bytes.NewReader(line)) // whatever it says, it ends
		if !ok {
			return
		}
		if r.Seq == 0 || len(r.ID) != 2*idBytes || len(body) > len(line) {
			t.Fatalf("%+v of %q", r, line)
		}
	})
}
