package cluster

import (
	"cmp"
	"strconv"
	"strings"

	"arca/internal/errs"
)

// A semver is a version by semver.org, without its build metadata. The zero value is lower than all others.
type semver struct {
	numbers [3]uint64
	pre     string // what stands behind the hyphen
	text    string
}

// ParseVersion checks a version that counts for upgrades: three numbers, and what may follow them, as in 1.20.0-release.2.
func ParseVersion(text string) error {
	_, err := parseVersion(text)
	return err
}

func parseVersion(text string) (v semver, err error) {
	bad := errs.New(errs.Invalid, "the version %q must be one of semver.org, as in 1.20.0 or 1.20.0-release.2", text)
	v.text = text
	rest, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), "+")
	rest, pre, hyphen := strings.Cut(rest, "-")
	parts := strings.Split(rest, ".")
	if len(parts) > len(v.numbers) || hyphen && pre == "" {
		return semver{}, bad
	}
	for i, p := range parts {
		if v.numbers[i], err = strconv.ParseUint(p, 10, 32); err != nil {
			return semver{}, bad
		}
	}
	for part := range strings.SplitSeq(pre, ".") {
		if hyphen && (part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "") {
			return semver{}, bad
		}
	}
	v.pre = pre
	return v, nil
}

// compare is the order of semver.org, section 11.
func (v semver) compare(o semver) int {
	if v.text == "" || o.text == "" {
		return cmp.Compare(len(v.text), len(o.text))
	}
	for i := range v.numbers {
		if c := cmp.Compare(v.numbers[i], o.numbers[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.pre == o.pre:
		return 0
	case v.pre == "": // what has no such part is the release
		return 1
	case o.pre == "":
		return -1
	}
	a, b := strings.Split(v.pre, "."), strings.Split(o.pre, ".")
	for i := range min(len(a), len(b)) {
		if c := comparePart(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// comparePart compares numbers as such, and has them before words.
func comparePart(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(x, y)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
