package remote

import (
	"slices"
	"sort"
	"strings"

	"arca/internal/storage"
)

// A Write is what a batch comes to, in this order: Prefixes are deleted, then Puts and Deletes done, no key of which occurs
// twice. Puts and Deletes are sorted.
type Write struct {
	Prefixes []string
	Puts     []storage.Entry
	Deletes  []string
}

// Plan works out what a batch comes to.
func Plan(b storage.Batch) *Write {
	w := &Write{}
	last := make(map[string]int, len(b))
	for i, op := range b {
		if op.Kind == storage.DeletePrefix {
			for key := range last {
				if strings.HasPrefix(key, op.Key) {
					delete(last, key)
				}
			}
			w.Prefixes = append(w.Prefixes, op.Key)
			continue
		}
		last[op.Key] = i
	}
	for key, i := range last {
		if b[i].Kind == storage.Put {
			w.Puts = append(w.Puts, storage.Entry{Key: key, Value: b[i].Value})
		} else {
			w.Deletes = append(w.Deletes, key)
		}
	}
	slices.SortFunc(w.Puts, func(x, y storage.Entry) int { return strings.Compare(x.Key, y.Key) })
	sort.Strings(w.Deletes)
	sort.Strings(w.Prefixes)
	w.Prefixes = slices.Compact(w.Prefixes)
	return w
}

// Keys are all that are put or deleted, sorted.
func (w *Write) Keys() []string {
	keys := make([]string, 0, len(w.Puts)+len(w.Deletes))
	for i := range w.Puts {
		keys = append(keys, w.Puts[i].Key)
	}
	keys = append(keys, w.Deletes...)
	sort.Strings(keys)
	return keys
}

// Bounds of what is kept of what a deleted prefix held.
const (
	MaxKept      = 10_000
	MaxKeptBytes = 16 << 20
)

// Noted puts together what a write overwrites: old is what its keys held, swept what lay under its prefixes, and lost those of
// them of which not all is in swept.
func (w *Write) Noted(old, swept []storage.Entry, lost []string) storage.Before {
	values := make(map[string][]byte, len(old)+len(swept))
	for _, list := range [][]storage.Entry{swept, old} {
		for _, e := range list {
			if e.Value == nil {
				e.Value = []byte{}
			}
			values[e.Key] = e.Value
		}
	}
	for _, key := range w.Keys() {
		if _, ok := values[key]; !ok {
			values[key] = nil
		}
	}
	b := storage.Before{Entries: make([]storage.Entry, 0, len(values)), Lost: lost}
	for key, value := range values {
		b.Entries = append(b.Entries, storage.Entry{Key: key, Value: value})
	}
	slices.SortFunc(b.Entries, func(x, y storage.Entry) int { return strings.Compare(x.Key, y.Key) })
	return b
}

// Swept returns what lies under the prefixes of a write, by pages of the database, and those of which that would be
// too much to keep.
func (w *Write) Swept(pageOf func(Page) ([]storage.Entry, error)) (swept []storage.Entry, lost []string, err error) {
	bytes := 0
	for _, p := range w.Prefixes {
		from, to := Range(p)
		list, err := pageOf(Page{From: from, To: to, Limit: MaxKept + 1})
		if err != nil {
			return nil, nil, err
		}
		for _, e := range list {
			bytes += len(e.Key) + len(e.Value)
		}
		if len(list)+len(swept) > MaxKept || bytes > MaxKeptBytes {
			lost = append(lost, p)
			continue
		}
		swept = append(swept, list...)
	}
	return swept, lost, nil
}

// First is the first key that is not the database's own.
const First = "\x01"

// Range returns the keys that begin with prefix, as from and to of a Page, without the database's own.
func Range(prefix string) (from, to string) { return max(prefix, First), prefixEnd(prefix) }

// prefixEnd returns the first key after all that begin with prefix. Without one it is that before the database's own.
func prefixEnd(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return "\xff"
}
