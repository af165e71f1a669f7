package remote

import (
	"context"
	"sort"

	"arca/internal/storage"
)

// Sizes of pages: the first is small, since most scans end soon, and each is larger than the one before.
const (
	firstPage   = 32
	pageGrowth  = 4
	lastPage    = 512 // with values
	lastKeyPage = 2048
	pageBytes   = 4 << 20 // beyond which the next is smaller
)

// An iterator reads a scan page by page. What it shows is as old as the page.
type iterator struct {
	ctx  context.Context //nolint:containedctx // of the scan
	d    Driver
	from string
	to   string
	keys bool
	size int

	page []storage.Entry
	at   int  // of the current key in page; -1 before the first
	end  bool // nothing comes after page
	err  error
}

func newIterator(ctx context.Context, d Driver, o storage.ScanOptions) *iterator {
	from, to := Range(o.Prefix)
	return &iterator{ctx: ctx, d: d, from: max(from, o.From), to: to, keys: o.KeysOnly, size: firstPage, at: -1}
}

// Next implements storage.Iterator.
func (i *iterator) Next() bool {
	if i.at++; i.at < len(i.page) {
		return true
	}
	return i.load()
}

// Seek implements storage.Iterator.
func (i *iterator) Seek(key []byte) bool {
	k := string(key)
	if n := len(i.page); n > 0 && k <= i.page[n-1].Key {
		start := min(max(i.at, 0), n-1)
		i.at = start + sort.Search(n-start, func(j int) bool { return i.page[start+j].Key >= k })
		return true
	}
	if i.end {
		i.at = len(i.page)
		return false
	}
	i.from = max(i.from, k)
	return i.load()
}

// load reads the page that begins at from.
func (i *iterator) load() bool {
	i.page, i.at = nil, 0
	if i.err != nil || i.end || i.from >= i.to {
		i.end = true
		return false
	}
	ctx, cancel := context.WithTimeout(i.ctx, readTime)
	defer cancel()
	page, err := i.d.Page(ctx, Page{From: i.from, To: i.to, Limit: i.size, KeysOnly: i.keys})
	if err != nil {
		i.err = kinded(err)
		return false
	}
	i.page = page
	if i.end = len(page) < i.size; !i.end {
		i.from = page[len(page)-1].Key + "\x00"
	}
	most := lastPage
	if i.keys {
		most = lastKeyPage
	}
	bytes := 0
	for _, e := range page {
		bytes += len(e.Key) + len(e.Value)
	}
	if i.size = min(i.size*pageGrowth, most); bytes > pageBytes {
		i.size = max(len(page)*pageBytes/bytes, 1)
	}
	return len(page) > 0
}

// Key implements storage.Iterator.
func (i *iterator) Key() []byte { return []byte(i.page[i.at].Key) }

// Value implements storage.Iterator.
func (i *iterator) Value() ([]byte, error) { return append([]byte{}, i.page[i.at].Value...), nil }

// Err implements storage.Iterator.
func (i *iterator) Err() error { return i.err }

// Close implements storage.Iterator.
func (i *iterator) Close() error { return nil }
