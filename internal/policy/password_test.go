package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"arca/internal/errs"
)

const example = `length = 20
rule "charset" { charset = "abcdefghij" }
rule "charset" { charset = "0123456789" min-chars = 3 }
rule "charset" { charset = "!" min-chars = 1 }`

func TestParsePassword(t *testing.T) {
	t.Parallel()
	one := func(charset string, least int) string {
		return fmt.Sprintf("length = 10\nrule \"charset\" { charset = %q min-chars = %d }", charset, least)
	}
	cases := []struct{ name, text, err string }{
		{"example", example, ""},
		{"JSON", `{"length":8,"rule":[{"charset":{"charset":"ab","min-chars":1}}]}`, ""},
		{"repeated characters", one("aaab", 10), ""},
		{"too short", "length = 3\n" + one("a", 0)[12:], "passwords must be between 4 and 100 characters"},
		{"too long", "length = 101\n" + one("a", 0)[12:], "passwords must be between 4 and 100 characters"},
		{"no length", `rule "charset" { charset = "a" }`, "passwords must be between"},
		{"no rule", "length = 10", "no charset specified"},
		{"unknown rule", "length = 10\nrule \"words\" {}", "unrecognized rule type words"},
		{"nothing in it", one("", 1), "charset cannot be empty"},
		{"not printable", one("a\u0001", 1), "non-printable character in charset"},
		{"negative", one("a", -1), "min-chars cannot be negative"},
		{"more than fits", one("a", 11), "specified rules require at least 11 characters but 10 is specified"},
		{"bad text", "length = {", "unable to decode"},
		{"no number", `length = "ten"`, "unable to decode"},
		{"a list", "length = 10\nrule = [1]", "invalid password policy"},
		{"too large", strings.Repeat("#", maxPasswordBytes+1), "larger than"},
		{"many rules", "length = 10\n" + strings.Repeat("rule \"charset\" { charset = \"ab\" }\n", 65), "it has 65 rules, of at most 64"},
		{"too deep", strings.Repeat("rule \"charset\" {", 100), "nested deeper"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParsePassword(c.text)
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !errs.Is(err, errs.Invalid)):
				t.Fatalf("got %v, want an error with %q", err, c.err)
			}
		})
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	p, err := ParsePassword(example)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	count := map[rune]int{}
	for range n {
		word, err := p.Generate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		digits, marks := 0, 0
		for _, r := range word {
			count[r]++
			switch {
			case r >= '0' && r <= '9':
				digits++
			case r == '!':
				marks++
			case r < 'a' || r > 'j':
				t.Fatalf("%q has characters of no set", word)
			}
		}
		if utf8.RuneCountInString(word) != 20 || digits < 3 || marks < 1 {
			t.Fatalf("%q breaks the rules", word)
		}
	}
	// Characters of one set are equally likely: some 1,800 of each; 6 sigma is 250.
	for r := 'a'; r <= 'j'; r++ {
		if d := count[r] - count['a']; d > 400 || d < -400 {
			t.Errorf("%c came %d times, a %d times", r, count[r], count['a'])
		}
	}
}

// What can hardly be met is given up in bounded time, and so are many rules over large
// sets.
func TestGenerateGivesUp(t *testing.T) {
	t.Parallel()
	var large strings.Builder
	for r := rune(0x4e00); r < 0x4e00+255; r++ {
		large.WriteRune(r)
	}
	large.WriteByte('0')
	many := "length = 100\n" + strings.Repeat(fmt.Sprintf("rule \"charset\" { charset = %q min-chars = 1 }\n", large.String()), 50) +
		"rule \"charset\" { charset = \"0\" min-chars = 50 }"
	p, err := ParsePassword(many)
	if err != nil {
		t.Fatal(err)
	}
	if a := p.alphabet(); len(a.chars) != 256 || a.most != 51 || len(a.need) != 51 {
		t.Errorf("%d characters, in up to %d of %d sets", len(a.chars), a.most, len(a.need))
	}
	began := time.Now()
	if word, err := p.Generate(t.Context()); err == nil {
		t.Errorf("got %q", word)
	}
	if took := time.Since(began); took > 3*time.Second { // it takes some 30 ms, and took 9 s
		t.Errorf("it took %s to give up", took)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if _, err := p.Generate(gone); err == nil || err.Error() != "gone" {
		t.Errorf("of nobody: %v", err)
	}
	var wide strings.Builder
	for r := rune(0x4e00); r < 0x4e00+300; r++ {
		wide.WriteRune(r)
	}
	p, err = ParsePassword(fmt.Sprintf("length = 10\nrule \"charset\" { charset = %q }", wide.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Generate(t.Context()); err == nil {
		t.Error("more than 256 characters were taken")
	}
}

func FuzzParsePassword(f *testing.F) {
	f.Add(example)
	f.Add(`{"length":8,"rule":[{"charset":{"charset":"ab","min-chars":1}}]}`)
	f.Add("length = 4\nrule \"charset\" { charset = \"é\" min-chars = 4 }")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 {
			return
		}
		p, err := ParsePassword(text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		need := 0
		for _, s := range p.sets {
			need += s.least
		}
		if need > p.Length/4 {
			return // may take many attempts
		}
		if word, err := p.Generate(t.Context()); err == nil {
			for _, s := range p.sets {
				n := 0
				for _, r := range word {
					if slices.Contains(s.chars, r) {
						n++
					}
				}
				if n < s.least {
					t.Fatalf("%q breaks the rules of %q", word, text)
				}
			}
		}
	})
}
