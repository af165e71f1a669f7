package consul

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	api "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/storage/objects"
)

const (
	// inlineBytes is the longest object that is one value: Consul takes 512 KiB.
	inlineBytes = 448 << 10
	// tailLen is how much of an object's name stands behind a slash of its own, so that Consul can list groups of 256
	// numbers, and not only all there are.
	tailLen    = 2
	groupedDir = "log/" // which has many; other folders are listed at once

	attempts       = 4
	firstPause     = 100 * time.Millisecond
	requestTimeout = 20 * time.Second
	maxListing     = 8 << 20
)

// The first byte of a value says what it is.
const (
	whole = 'w' // the object follows
	parts = 'p' // a manifest follows: the object lies in parts
)

type manifest struct {
	Dir   string `json:"dir"`
	Parts int    `json:"parts"`
	Size  int64  `json:"size"`
}

// kv keeps objects in Consul's key/value store: an objects.Store. Keys lie below "o/"; what is longer than a value lies in
// parts below "p/<key>/<random>/".
type kv struct {
	c    *api.Client
	path string // "" or with a slash at the end
}

var _ objects.Store = (*kv)(nil)

// doubt is an error after which it is not known what Consul did.
type doubt struct{ err error }

func (d *doubt) Error() string { return d.err.Error() }
func (d *doubt) Unwrap() error { return d.err }

var errTaken = errs.New(errs.Conflict, "there is an entry of this key in Consul already")

func (s *kv) key(name string) string {
	cut := max(0, len(name)-tailLen)
	return s.path + "o/" + name[:cut] + "/" + name[cut:]
}

func (s *kv) name(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, s.path+"o/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 {
		return "", false
	}
	return rest[:i] + rest[i+1:], true
}

func address(key string) string { return "/v1/kv/" + (&url.URL{Path: key}).EscapedPath() }

// do asks, again after errors that may pass.
func (s *kv) do(ctx context.Context, q api.Request) ([]byte, error) {
	pause, unsure := firstPause, false
	for try := 1; ; try++ {
		answer, err := s.once(ctx, q)
		again, doubtful := api.MayPass(err)
		unsure = unsure || doubtful
		if !again || try == attempts || ctx.Err() != nil {
			if err != nil && unsure {
				err = errs.New(errs.KindOf(err), "%w", &doubt{err})
			}
			return answer, err
		}
		t := time.NewTimer(pause/2 + mrand.N(pause)) //nolint:gosec // spreads retries
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause *= 2
	}
}

func (s *kv) once(ctx context.Context, q api.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return s.c.Do(ctx, q)
}

// put writes a value; with fresh only if there is none; errTaken says that it was not taken.
func (s *kv) put(ctx context.Context, key string, value []byte, fresh bool) error {
	q := api.Request{Method: api.Put, Path: address(key), Body: value}
	if fresh {
		q.Query = url.Values{"cas": {"0"}}
	}
	said, err := s.do(ctx, q)
	if err != nil {
		return err
	}
	switch strings.TrimSpace(string(said)) {
	case "true":
		return nil
	case "false":
		return errTaken
	}
	return errs.New(errs.Unavailable, "%w", &doubt{errs.New(errs.Unavailable, "Consul's answer to a value is none")})
}

// get is a value, as new as any write that was acknowledged.
func (s *kv) get(ctx context.Context, key string) ([]byte, error) {
	return s.do(ctx, api.Request{Method: api.Get, Path: address(key), Query: url.Values{"raw": {""}, "consistent": {""}}, Most: inlineBytes + 1})
}

func (s *kv) remove(ctx context.Context, key string, tree bool) error {
	q := api.Request{Method: api.Delete, Path: address(key)}
	if tree {
		q.Query = url.Values{"recurse": {""}}
	}
	_, err := s.do(ctx, q)
	return err
}

// PutNew implements objects.Store. It never knows when that was. The parts of an attempt
// whose answer was lost go with the object of this name, or one behind it: something may name them.
func (s *kv) PutNew(ctx context.Context, name string, body []byte) (time.Time, error) {
	if len(body) <= inlineBytes {
		return time.Time{}, s.put(ctx, s.key(name), append([]byte{whole}, body...), true)
	}
	u := s.upload(ctx, name)
	_, err := u.Write(body)
	if err == nil {
		err = u.commit(true)
	}
	if err != nil && !u.named {
		err = errs.New(errs.KindOf(err), "%w", &unnamed{errors.Join(err, u.Abort())})
	}
	return time.Time{}, err
}

// unnamed is an error before anything could name the parts of an object: certainly it was not written.
type unnamed struct{ err error }

func (u *unnamed) Error() string { return u.err.Error() }
func (u *unnamed) Unwrap() error { return u.err }

func unsure(err error) bool {
	var d *doubt
	return errors.As(err, &d)
}

// Get implements objects.Store.
func (s *kv) Get(ctx context.Context, name string, most int64) ([]byte, error) {
	in, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if in.size > most {
		return nil, errs.New(errs.TooLarge, "an object in Consul has more than %d bytes", most)
	}
	body := make([]byte, in.size)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	return body, nil
}

// Open implements objects.Store.
func (s *kv) Open(ctx context.Context, name string) (io.ReadCloser, error) { return s.open(ctx, name) }

func (s *kv) open(ctx context.Context, name string) (*reader, error) {
	value, err := s.get(ctx, s.key(name))
	if err != nil {
		return nil, err
	}
	if len(value) > 0 && value[0] == whole {
		return &reader{buf: value[1:], size: int64(len(value) - 1)}, nil
	}
	var m manifest
	if len(value) == 0 || value[0] != parts || json.Unmarshal(value[1:], &m) != nil || !strings.HasPrefix(m.Dir, "p/"+name+"/") || m.Size < 0 {
		return nil, errs.New(errs.Failed, "the entry %q in Consul was not written by arca", s.key(name))
	}
	return &reader{s: s, ctx: ctx, m: m, size: m.Size}, nil
}

// A reader reads an object.
type reader struct {
	s    *kv
	ctx  context.Context //nolint:containedctx // that of the call that opened it, as io.Reader has none
	m    manifest
	next int
	size int64
	buf  []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if r.next == r.m.Parts {
			return 0, io.EOF
		}
		var err error
		if r.buf, err = r.s.get(r.ctx, r.s.path+r.m.Dir+strconv.Itoa(r.next)); err != nil {
			return 0, err
		}
		r.next++
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// Close implements io.Closer.
func (*reader) Close() error { return nil }

// Upload implements objects.Store.
func (s *kv) Upload(ctx context.Context, name string) objects.Upload { return s.upload(ctx, name) }

func (s *kv) upload(ctx context.Context, name string) *upload {
	return &upload{s: s, ctx: ctx, name: name, m: manifest{Dir: "p/" + name + "/" + rand.Text() + "/"}}
}

// An upload writes parts, and then what names them.
type upload struct {
	s    *kv
	ctx  context.Context //nolint:containedctx // that of the call that began it, as io.Writer has none
	name string
	m    manifest
	buf  []byte

	named bool // it was tried
}

// Write implements io.Writer.
func (u *upload) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		some := min(len(p), inlineBytes-len(u.buf))
		u.buf = append(u.buf, p[:some]...)
		p = p[some:]
		if len(u.buf) == inlineBytes {
			if err := u.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

func (u *upload) flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	if err := u.s.put(u.ctx, u.s.path+u.m.Dir+strconv.Itoa(u.m.Parts), u.buf, false); err != nil {
		return err
	}
	u.m.Parts++
	u.m.Size += int64(len(u.buf))
	u.buf = u.buf[:0]
	return nil
}

// Commit implements objects.Upload.
func (u *upload) Commit() error { return u.commit(false) }

func (u *upload) commit(fresh bool) error {
	if err := u.flush(); err != nil {
		return err
	}
	text, err := json.Marshal(u.m)
	if err != nil {
		return err
	}
	u.named = true
	return u.s.put(u.ctx, u.s.key(u.name), append([]byte{parts}, text...), fresh)
}

// Abort implements objects.Upload. Once it was asked to name its parts, something may, and they stay: Delete removes them later.
func (u *upload) Abort() error {
	if u.named {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), requestTimeout)
	defer cancel()
	return u.s.remove(ctx, u.s.path+u.m.Dir, true)
}

// Delete implements objects.Store. Objects of a folder are removed in the order of their names; with one go the parts of all attempts to write it,
// or one before it.
func (s *kv) Delete(ctx context.Context, name string) error {
	if err := s.remove(ctx, s.key(name), false); err != nil {
		return err
	}
	folder, last := s.path+"p/"+name[:strings.LastIndexByte(name, '/')+1], s.path+"p/"+name+"/"
	dirs, err := s.list(ctx, folder, "/")
	for _, dir := range dirs {
		if err == nil && dir <= last {
			err = s.remove(ctx, dir, true)
		}
	}
	return err
}

// Page implements objects.Store: all of a folder, or of the log, which may be long, the first group behind after that has anything
// there. Sizes and times are not known.
func (s *kv) Page(ctx context.Context, prefix, after string) (objects.Page, error) {
	if !strings.HasSuffix(prefix, groupedDir) {
		keys, err := s.list(ctx, s.path+"o/"+prefix, "")
		return objects.Page{Objects: s.behind(keys, prefix, after)}, err
	}
	for range attempts {
		page, whole, err := s.group(ctx, prefix, after)
		if whole || err != nil {
			return page, err
		}
	}
	return objects.Page{}, errs.New(errs.Unavailable, "what Consul lists below %q changes all the time", s.path+"o/"+prefix)
}

// group is a Page of a folder in groups. Two requests are not one moment: a group that is gone by the second may be followed by one that
// the first did not name; then whole is false, and nothing is known.
func (s *kv) group(ctx context.Context, prefix, after string) (page objects.Page, whole bool, err error) {
	groups, err := s.list(ctx, s.path+"o/"+prefix, "/")
	if err != nil {
		return page, false, err
	}
	var from string // the group of after
	if after != "" {
		key := s.key(after)
		from = key[:len(key)-tailLen]
	}
	for i, group := range groups {
		if group < from {
			continue
		}
		keys, err := s.list(ctx, group, "")
		if err != nil || len(keys) == 0 {
			return page, false, err
		}
		page.Objects, page.More = s.behind(keys, prefix, after), i < len(groups)-1
		if len(page.Objects) > 0 || !page.More {
			return page, true, nil
		}
	}
	return objects.Page{}, true, nil
}

// behind are the objects of keys that come after one.
func (s *kv) behind(keys []string, prefix, after string) (list []objects.Object) {
	for _, key := range keys {
		if name, ok := s.name(key); ok && name > after && strings.HasPrefix(name, prefix) {
			list = append(list, objects.Object{Key: name})
		}
	}
	return list
}

// list is the keys below a prefix, in order; with a separator what they have in common up to it.
func (s *kv) list(ctx context.Context, prefix, separator string) ([]string, error) {
	q := url.Values{"keys": {""}, "consistent": {""}}
	if separator != "" {
		q.Set("separator", separator)
	}
	raw, err := s.do(ctx, api.Request{Method: api.Get, Path: address(prefix), Query: q, Most: maxListing})
	if api.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []string
	if json.Unmarshal(raw, &keys) != nil {
		return nil, errs.New(errs.Unavailable, "Consul's list of keys is not one")
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !strings.HasPrefix(key, prefix) {
			return nil, errs.New(errs.Unavailable, "Consul's list of keys names others than those asked for")
		}
	}
	return keys, nil
}

// IsNotFound implements objects.Store.
func (*kv) IsNotFound(err error) bool { return api.IsNotFound(err) }

// IsTaken implements objects.Store.
func (*kv) IsTaken(err error) bool { return errors.Is(err, errTaken) }

// IsRefused implements objects.Store.
func (*kv) IsRefused(err error) bool {
	var u *unnamed
	status := api.Status(err)
	return errors.As(err, &u) || status >= 400 && status < 500 && !unsure(err)
}

// entry is what Consul says of a key.
type entry struct {
	Value   string
	Session string
}

func (s *kv) entry(ctx context.Context, key string) (e entry, value []byte, err error) {
	raw, err := s.do(ctx, api.Request{Method: api.Get, Path: address(key), Query: url.Values{"consistent": {""}}})
	if err != nil {
		return e, nil, err
	}
	var list []entry
	if json.Unmarshal(raw, &list) != nil || len(list) != 1 {
		return e, nil, errs.New(errs.Unavailable, "Consul's answer of a key is not one")
	}
	value, err = base64.StdEncoding.DecodeString(list[0].Value)
	return list[0], value, err
}

// marshal is JSON of what always encodes.
func marshal(v any) []byte {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b.Bytes()
}
