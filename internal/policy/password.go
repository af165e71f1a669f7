package policy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Bounds on a generated password, as Vault documents them.
const (
	minPassword = 4
	maxPassword = 100
)

// Bounds on a policy: more rules than anybody writes, and the text of as many with 256
// characters each.
const (
	maxPasswordRules = 64
	maxPasswordBytes = 64 << 10
)

// A Password is a password policy: a length, and sets of characters of which a
// password has at least so many.
type Password struct {
	Text   string
	Length int
	sets   []charset
}

type charset struct {
	chars []rune
	least int
}

// ParsePassword reads a password policy in HCL or JSON. Errors are Invalid and
// in the form of a list, as Vault shows them.
func ParsePassword(text string) (*Password, error) {
	if len(text) > maxPasswordBytes {
		return nil, errs.List(errs.Invalid, fmt.Sprintf("invalid password policy: text is larger than %d bytes", maxPasswordBytes))
	}
	p := &Password{Text: text}
	if err := p.parse(); err != nil {
		return nil, errs.List(errs.Invalid, "invalid password policy: "+err.Error())
	}
	if p.Length < minPassword || p.Length > maxPassword {
		return nil, errs.List(errs.Invalid, fmt.Sprintf("passwords must be between %d and %d characters", minPassword, maxPassword))
	}
	if len(p.sets) == 0 {
		return nil, errs.List(errs.Invalid, "invalid password policy: "+errs.List(errs.Invalid, "no charset specified").Error())
	}
	need := 0
	for _, s := range p.sets {
		need += s.least
	}
	if need > p.Length {
		inner := errs.List(errs.Invalid, fmt.Sprintf("specified rules require at least %d characters but %d is specified", need, p.Length))
		return nil, errs.List(errs.Invalid, "invalid password policy: "+inner.Error())
	}
	return p, nil
}

func (p *Password) parse() error {
	list, err := parseHCL(p.Text)
	if err != nil {
		return fmt.Errorf("unable to decode: %w", err)
	}
	var top struct {
		Length int `hcl:"length"`
	}
	if err := decodeHCL(&top, list); err != nil {
		return fmt.Errorf("unable to decode: %w", err)
	}
	p.Length = top.Length
	rules := list.Filter("rule").Items
	if len(rules) > maxPasswordRules {
		return fmt.Errorf("it has %d rules, of at most %d", len(rules), maxPasswordRules)
	}
	for _, item := range rules {
		name := ""
		if len(item.Keys) > 0 {
			name, _ = item.Keys[0].Token.Value().(string)
		}
		if name != "charset" {
			return fmt.Errorf("unable to parse rules: unrecognized rule type %s", name)
		}
		var r struct {
			Charset string `hcl:"charset"`
			Least   int    `hcl:"min-chars"`
		}
		if err := decodeHCL(&r, item.Val); err != nil {
			return fmt.Errorf("unable to decode: %w", err)
		}
		chars := []rune(r.Charset)
		slices.Sort(chars)
		chars = slices.Compact(chars)
		if len(chars) == 0 {
			return errors.New("charset cannot be empty")
		}
		if slices.ContainsFunc(chars, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return errors.New("non-printable character in charset")
		}
		if r.Least < 0 {
			return errors.New("min-chars cannot be negative")
		}
		p.sets = append(p.sets, charset{chars, r.Least})
	}
	return nil
}

// An alphabet is all that a password is drawn from, with the sets that each character
// is in: bit n is that of need[n].
type alphabet struct {
	chars []rune
	sets  []uint64
	need  []int
	most  int // sets that one character is in
}

func (p *Password) alphabet() *alphabet {
	in := map[rune]uint64{}
	a := &alphabet{}
	for _, s := range p.sets {
		bit := uint64(0)
		if s.least > 0 { // the others only give characters
			bit = 1 << len(a.need)
			a.need = append(a.need, s.least)
		}
		for _, r := range s.chars {
			in[r] |= bit
		}
	}
	for r := range in {
		a.chars = append(a.chars, r)
	}
	slices.Sort(a.chars)
	a.sets = make([]uint64, len(a.chars))
	for i, r := range a.chars {
		a.sets[i] = in[r]
		a.most = max(a.most, bits.OnesCount64(in[r]))
	}
	return a
}

// Bounds on the work for one password: how often it is drawn, as a policy that asks for
// too much of a rare set may never be met, and how many characters are counted into
// sets meanwhile.
const (
	maxDraws  = 10_000
	maxCounts = 16 << 20
)

// Generate makes a password: it draws from all sets together until every rule
// holds, so that each allowed password is equally likely. It ends with ctx.
func (p *Password) Generate(ctx context.Context) (string, error) {
	a := p.alphabet()
	if len(a.chars) > 256 {
		return "", errors.New("the character sets hold more than 256 characters")
	}
	drawn := make([]int, p.Length)
	for n := range min(maxDraws, maxCounts/(p.Length*max(1, a.most))) {
		if n%64 == 0 && ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		draw(drawn, len(a.chars))
		if a.holds(drawn) {
			out := make([]rune, len(drawn))
			for i, c := range drawn {
				out[i] = a.chars[c]
			}
			return string(out), nil
		}
	}
	return "", errors.New("unable to generate a password that follows the rules")
}

// draw fills out with random numbers below n, which is at most 256, each as likely.
func draw(out []int, n int) {
	even := 256 - 256%n
	var buf [64]byte
	for i := 0; i < len(out); {
		rand.Read(buf[:]) // never fails
		for _, b := range buf {
			if int(b) < even && i < len(out) {
				out[i] = int(b) % n
				i++
			}
		}
	}
}

// holds reports whether the drawn characters follow every rule.
func (a *alphabet) holds(drawn []int) bool {
	var counts [maxPasswordRules]int
	for _, c := range drawn {
		for m := a.sets[c]; m != 0; m &= m - 1 {
			counts[bits.TrailingZeros64(m)]++
		}
	}
	for i, least := range a.need {
		if counts[i] < least {
			return false
		}
	}
	return true
}

func passwordDir(ns string) string { return namespace.Prefix(ns) + "policy/password/" }

// GetPassword reads a password policy, or fails with storage.ErrNotFound.
func GetPassword(tx storage.Tx, ns, name string) (*Password, error) {
	raw, err := tx.Get(passwordDir(ns) + strings.ToLower(name))
	if err != nil {
		return nil, err
	}
	return ParsePassword(string(raw))
}

// PutPassword checks and stores a password policy, and that a password can be
// generated by it.
func PutPassword(ctx context.Context, tx storage.Tx, ns, name, text string) error {
	p, err := ParsePassword(text)
	if err != nil {
		return err
	}
	if _, err := p.Generate(ctx); err != nil {
		return errs.List(errs.Invalid, err.Error())
	}
	return tx.Put(passwordDir(ns)+strings.ToLower(name), []byte(text))
}

// DeletePassword removes a password policy.
func DeletePassword(tx storage.Tx, ns, name string) error {
	return tx.Delete(passwordDir(ns) + strings.ToLower(name))
}

// ListPasswords names the password policies.
func ListPasswords(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.Names(passwordDir(ns), after, limit)
}
