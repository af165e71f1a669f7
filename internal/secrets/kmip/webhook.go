package kmip

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// Addresses that are told of clients' certificates before they end: each of each certificate
// once for each of the times that are set (before). What is near its end is found in the index
// of what is over (tidy.go), behind a mark, one for each address and time, which is moved when
// the address has answered well: a look costs what has come near since the last one, however
// many certificates there are. The active node does it, in the background; hook.go is how an
// address is asked.
const (
	hookDir        = "hook/" // <hash of the address>/<seconds before>: a mark
	hookPath       = "hooked"
	maxHooks       = 8
	maxHookSecret  = 1024
	leastSecret    = 16                   // bytes
	leastBefore    = 5 * time.Minute      // what is looked at once a minute
	maxBefore      = 365 * 24 * time.Hour //
	maxHookCA      = 64 << 10
	maxHookAddress = 2048
	hookedAtOnce   = 100              // certificates in one request
	hookPassed     = 20_000           // entries of the index in one look
	hookMoves      = 100              // entries that are passed before a mark is moved for them alone
	hookRounds     = 10               // requests to an address in one turn, for each time
	hookRest       = 50 * time.Second // from one turn to the next: looks come each minute, and whenever settings change
	hookPause      = time.Minute
	maxHookPause   = time.Hour
	hooksOfMount   = 2 // addresses that are asked at a time,
	hooksAtOnce    = 16
)

// hooks are the settings of config.
type hooks struct {
	URLs   []string        `json:"urls,omitempty"`
	Before []time.Duration `json:"before,omitempty"` // usualBefore where it is empty
	CA     string          `json:"ca,omitempty"`     // PEM; "" is the system's
	Secret string          `json:"secret,omitempty"` // of the signature; "" is none
}

// usualBefore is when addresses are told where nothing else was said.
func usualBefore() []time.Duration { return []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} }

func (h *hooks) before() []time.Duration {
	if len(h.Before) == 0 {
		return usualBefore()
	}
	return h.Before
}

func (h *hooks) equal(other *hooks) bool {
	if h == nil || other == nil {
		return h == other
	}
	return slices.Equal(h.URLs, other.URLs) && slices.Equal(h.Before, other.Before) && h.CA == other.CA && h.Secret == other.Secret
}

type hooksIn struct {
	URLs   *[]string `api:"expiry_webhook_urls" help:"Addresses that are told, by a POST, of clients' certificates before they end: https, or http at this machine."`
	Before *[]string `api:"expiry_webhook_before" help:"How long before their end, each of these times; 7d and 1d when it is not given."`
	CA     *string   `api:"expiry_webhook_ca" help:"Authorities of the addresses' certificates, PEM, in place of the system's."`
	Secret *string   `api:"expiry_webhook_secret" help:"Secret by which requests are signed (HMAC with SHA-256), of at least 16 characters. It is not shown."`
}

// apply takes what a request has changed.
func (h *hooks) apply(in *hooksIn, null func(name string) bool) error {
	take(&h.URLs, in.URLs, null("expiry_webhook_urls"), nil)
	take(&h.CA, in.CA, null("expiry_webhook_ca"), "")
	take(&h.Secret, in.Secret, null("expiry_webhook_secret"), "")
	switch {
	case null("expiry_webhook_before"):
		h.Before = nil
	case in.Before != nil:
		h.Before = nil
		for _, text := range *in.Before {
			d, err := param.ParseDuration(strings.TrimSpace(text))
			if err != nil || d < leastBefore || d > maxBefore || d%time.Second != 0 {
				return errs.New(errs.Invalid, "expiry_webhook_before: %q is no time from 5 minutes to a year, in whole seconds", text)
			}
			h.Before = append(h.Before, d)
		}
		slices.Sort(h.Before)
		h.Before = slices.Compact(h.Before)
	}
	return h.check()
}

func (h *hooks) check() error {
	if len(h.URLs) > maxHooks || len(h.Before) > maxHooks {
		return errs.New(errs.Invalid, "expiry_webhook_urls and expiry_webhook_before have at most %d values", maxHooks)
	}
	for i, text := range h.URLs {
		if err := checkHook(text); err != nil {
			return errs.New(errs.Invalid, "expiry_webhook_urls: address %d: %w", i+1, err)
		}
		if slices.Contains(h.URLs[:i], text) {
			return errs.New(errs.Invalid, "expiry_webhook_urls: address %d is there twice", i+1)
		}
	}
	if n := len(h.Secret); n > 0 && n < leastSecret || n > maxHookSecret {
		return errs.New(errs.Invalid, "expiry_webhook_secret must have from %d to %d characters", leastSecret, maxHookSecret)
	}
	if strings.ContainsAny(h.Secret, "\r\n") { // which few who check it would take for a part of it
		return errs.New(errs.Invalid, "expiry_webhook_secret has a line end: make its file without one (printf %%s SECRET > FILE)")
	}
	if len(h.CA) > maxHookCA || h.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(h.CA)) {
		return errs.New(errs.Invalid, "expiry_webhook_ca holds no certificate in PEM, or has more than %d bytes", maxHookCA)
	}
	return nil
}

// checkHook refuses an address that cannot be meant. What it leads to is looked at when it is
// asked.
func checkHook(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxHookAddress || err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("it must be of the form https://host/path")
	case u.User != nil || u.Fragment != "":
		return errors.New("it can have neither a user nor a fragment")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		return errors.New("it must begin with https://, or lead to this machine")
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && !mayHook(ip) {
		return errors.New("hosts are not asked at such an IP address")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// warn says where the certificates that nobody asked to be longer would end without a word.
func (h *hooks) warn(call *engine.Call, life time.Duration) {
	if least := slices.Min(h.before()); len(h.URLs) > 0 && life <= least {
		call.Warn("No webhook is told of certificates that are valid for %s (default_tls_client_ttl): the least time of expiry_webhook_before is %s.", life, least)
	}
}

// show adds the settings to what config shows.
func (h *hooks) show(out map[string]any) {
	if len(h.URLs) > 0 {
		out["expiry_webhook_urls"] = h.URLs
		seconds := []int64{}
		for _, d := range h.before() {
			seconds = append(seconds, int64(d/time.Second))
		}
		out["expiry_webhook_before"] = seconds
	}
	if h.CA != "" {
		out["expiry_webhook_ca"] = h.CA
	}
	if h.Secret != "" {
		out["expiry_webhook_signed"] = true
	}
}

// A hookMark is up to where in the index an address was told.
type hookMark struct {
	Version int    `json:"v"`
	After   string `json:"after"`
}

func hookKey(address string, before time.Duration) string {
	sum := sha256.Sum256([]byte(address))
	return fmt.Sprintf("%s%x/%d", hookDir, sum[:16], before/time.Second)
}

// marks has one mark for each address and time, and no other. A new one stands at what has
// ended by now: what will end in the time before it is told of at once.
func (h *hooks) marks(tx storage.Tx, now time.Time) error {
	want := map[string]bool{}
	for _, address := range h.URLs {
		for _, before := range h.before() {
			want[hookKey(address, before)] = true
		}
	}
	var gone []string
	for key, err := range tx.Keys(hookDir, "") {
		if err != nil {
			return err
		}
		if !want[key] {
			gone = append(gone, key)
		}
		delete(want, key)
	}
	for _, key := range gone {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if err := storage.PutJSON(tx, key, hookMark{1, dueKey(now.Add(credentialKept))}); err != nil {
			return err
		}
	}
	return nil
}

// An endingSoon is a certificate that an address is told of.
type endingSoon struct {
	Scope   string `json:"scope"`
	Role    string `json:"role"`
	Serial  string `json:"serial_number"`
	Ends    string `json:"not_after"`  // RFC 3339
	Seconds int64  `json:"expires_in"` // from the time of the request on
}

// A hookLook is what lies behind a mark.
type hookLook struct {
	certs  []endingSoon
	from   string   // the mark
	after  string   // the last entry that was looked at
	passed int      // entries
	unread []string // entries whose certificates cannot be read
	more   bool     // there may be others
}

// lookBehind finds certificates that end within a time and that an address was not told of.
// It is not told of one that was renewed, nor of one that was never to last longer than that.
func (e *Engine) lookBehind(tx storage.Tx, address string, before time.Duration, now time.Time) (*hookLook, error) {
	mark, err := get[hookMark](tx, hookKey(address, before))
	if errors.Is(err, errNotFound) { // the settings have just changed
		return &hookLook{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &hookLook{from: mark.After, after: mark.After}
	end := dueKey(now.Add(before + credentialKept + time.Second))
	for key, err := range tx.Keys(dueDir, mark.After) {
		if err != nil {
			return nil, err
		}
		if key >= end {
			return out, nil
		}
		if out.passed == hookPassed || len(out.certs) == hookedAtOnce {
			out.more = true
			return out, nil
		}
		out.passed++
		out.after = key
		parts := strings.Split(key, "/")
		if len(parts) != 5 || parts[2] != "c" {
			continue
		}
		role, serial, _ := strings.Cut(parts[4], ".")
		one, err := soon(tx, parts[3], role, serial, before, now)
		switch {
		case errors.Is(err, errUnreadable): // the others must not wait for it
			out.unread = append(out.unread, key)
		case err != nil:
			return nil, err
		case one != nil:
			out.certs = append(out.certs, *one)
		}
	}
	return out, nil
}

var errUnreadable = errs.New(errs.Internal, "the certificate cannot be read")

// soon is what is said of a certificate; nil for nothing. It is errUnreadable where the record is
// broken.
func soon(tx storage.Tx, scope, role, serial string, before time.Duration, now time.Time) (*endingSoon, error) {
	key := credDir(scope, role) + serial
	raw, err := tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) { // revoked
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, _, err := decoded[credential](key, raw)
	if err != nil {
		return nil, errUnreadable
	}
	cert, err := x509.ParseCertificate(c.Cert)
	if err != nil {
		return nil, errUnreadable
	}
	if short := !cert.NotAfter.Add(-before).After(cert.NotBefore.Add(backdate)); short || c.Renewed || c.Expires.Before(cert.NotAfter) || !now.Before(c.Expires) {
		return nil, nil
	}
	out := &endingSoon{Serial: serial, Ends: c.Expires.UTC().Format(time.RFC3339), Seconds: int64(c.Expires.Sub(now) / time.Second)}
	if out.Scope, err = nameOf(tx, scopeIDKey(scope)); err == nil {
		out.Role, err = nameOf(tx, roleIDKey(scope, role))
	}
	if errors.Is(err, errStranger) { // deleted
		return nil, nil
	}
	return out, err
}

// A hookMove is that a mark is moved.
type hookMove struct {
	Key   string `json:"key"`
	After string `json:"after"`
}

// moveMark notes up to where an address was told, as the node that told it says. A mark that is
// there already is written nonetheless: that is how it is tried (note).
func (e *Engine) moveMark(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	var move hookMove
	if json.Unmarshal(call.Request.Raw, &move) != nil || !strings.HasPrefix(move.Key, hookDir) || !strings.HasPrefix(move.After, dueDir) || len(move.After) > 512 {
		return nil, errs.New(errs.Invalid, "what was told cannot be read")
	}
	mark, err := get[hookMark](call.Tx, move.Key)
	if errors.Is(err, errNotFound) || err == nil && mark.After > move.After { // not asked any more, or told by another node
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, storage.PutJSON(call.Tx, move.Key, hookMark{1, move.After})
}

// hookTurns are when the addresses of a mount are asked again, at this node.
type hookTurns struct {
	mu  sync.Mutex
	now *hooks               // the settings; guarded by mu
	all map[string]*hookTurn // by address; guarded by mu
}

type hookTurn struct {
	asked bool          // just now
	next  time.Time     // not before; zero is at once
	pause time.Duration // after the last failure; 0 for none
}

// set takes the settings. When they have changed, what was in the way may not be there any more.
func (t *hookTurns) set(h *hooks) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now.equal(h) {
		return
	}
	t.now = h
	all := map[string]*hookTurn{}
	if h != nil {
		for _, address := range h.URLs {
			all[address] = &hookTurn{}
			if have := t.all[address]; have != nil {
				all[address].asked = have.asked
			}
		}
	}
	t.all = all
}

// begin lists the addresses that may be asked now, and settings for that; over must be called
// for each. They are left alone for a while then: settings of the node are followed much more
// often than anything comes near its end.
func (t *hookTurns) begin(now time.Time) (h *hooks, addresses []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		return nil, nil
	}
	for _, address := range t.now.URLs {
		if one := t.all[address]; !one.asked && !now.Before(one.next) {
			one.asked, one.next = true, now.Add(hookRest)
			addresses = append(addresses, address)
		}
	}
	return t.now, addresses
}

// over ends a turn, and returns how long the address is left alone when it has failed.
func (t *hookTurns) over(address string, failed bool, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[address]
	if one == nil {
		return 0
	}
	one.asked = false
	if !failed {
		one.pause = 0
		return 0
	}
	one.pause = min(max(2*one.pause, hookPause), maxHookPause)
	one.next = now.Add(one.pause)
	return one.pause
}

// callHooks has the active node tell addresses what they were not told yet, each in a
// goroutine of group, which may last: the time is asked for whenever it counts.
func (s *servers) callHooks(ctx context.Context, host engine.Host, group *sync.WaitGroup, clock func() time.Time) {
	if !host.Leads() {
		return
	}
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.byMount))
	s.mu.Unlock()
	for _, v := range all {
		h, addresses := v.hooks.begin(clock())
		for _, address := range addresses {
			group.Go(func() {
				err := s.callHook(ctx, host, v, h, address, clock)
				pause := v.hooks.over(address, err != nil, clock())
				at := v.at.Load()
				if err == nil || ctx.Err() != nil || errs.Is(err, errs.NotFound) || errs.Is(err, errs.NotActive) {
					return
				}
				s.meters.event(at, hookFailed, whyNot(err))
				host.Log().Warn("tell a webhook of certificates that end; it is tried again", "mount", at.NamespacePath+at.Mount.Path, "host", hostOf(address),
					"again_in", pause.String(), "error", plainText(err))
			})
		}
	}
}

// callHook tells one address, for each time that is set.
func (s *servers) callHook(ctx context.Context, host engine.Host, v *server, h *hooks, address string, clock func() time.Time) error {
	at := v.at.Load()
	leave, err := s.hooking.Take(ctx, nil, at.Mount.ID)
	if err != nil {
		return err
	}
	defer leave()
	c := &hookCall{s, host, at, h, address, newHookClient(h, s.hookFor), clock}
	defer c.client.CloseIdleConnections()
	for _, before := range h.before() {
		for range hookRounds {
			if !host.Leads() {
				return nil
			}
			more, err := c.round(ctx, before)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// A hookCall is a turn of an address.
type hookCall struct {
	s       *servers
	host    engine.Host
	at      *place
	h       *hooks
	address string
	client  *hookClient
	clock   func() time.Time
}

// round is one request at most, and reports whether there may be more to tell.
func (c *hookCall) round(ctx context.Context, before time.Duration) (more bool, err error) {
	now := c.clock()
	var look *hookLook
	err = c.host.View(ctx, c.at.Mount, func(tx storage.Tx) (err error) {
		look, err = c.s.engine.lookBehind(tx, c.address, before, now)
		return err
	})
	if err != nil {
		return false, err
	}
	if len(look.unread) > 0 {
		c.host.Log().Error("certificates cannot be read: no webhook is told of them", "mount", c.at.NamespacePath+c.at.Mount.Path, "records", len(look.unread), "first", look.unread[0])
	}
	if len(look.certs) > 0 {
		// What cannot be noted would be told without end, and nothing behind it.
		if err := c.note(ctx, before, look.from); err != nil {
			return false, err
		}
		if err := c.client.tell(ctx, c.h.Secret, c.address, c.h.body(c.at, before, look.certs, now), c.clock()); err != nil {
			return false, err
		}
		c.s.meters.event(c.at, hookTold, "")
	}
	if len(look.certs) > 0 || len(look.unread) > 0 || look.passed >= hookMoves {
		err = c.note(ctx, before, look.after)
	}
	return look.more, err
}

// note has the mark moved.
func (c *hookCall) note(ctx context.Context, before time.Duration, after string) error {
	raw, err := json.Marshal(hookMove{hookKey(c.address, before), after})
	if err == nil {
		_, err = c.host.Handle(ctx, &engine.Request{ID: newUUID(), Op: engine.OpUpdate, Namespace: c.at.NamespacePath, Path: c.at.Mount.Path + hookPath, Raw: raw})
	}
	return err
}

// A hookBody is what an address is told.
type hookBody struct {
	ID           string       `json:"id"` // the same when the same certificates are told of again
	Type         string       `json:"type"`
	Time         string       `json:"time"`
	Namespace    string       `json:"namespace"`
	Mount        string       `json:"mount"`
	Before       int64        `json:"before"` // seconds: the time of expiry_webhook_before
	Certificates []endingSoon `json:"certificates"`
}

func (h *hooks) body(at *place, before time.Duration, certs []endingSoon, now time.Time) []byte {
	id := sha256.New()
	fmt.Fprintf(id, "%s/%d", at.Mount.ID, before)
	for i := range certs {
		fmt.Fprintf(id, "/%s", certs[i].Serial)
	}
	raw, _ := json.Marshal(&hookBody{ // texts and numbers: it never fails
		ID: hex.EncodeToString(id.Sum(nil)[:16]), Type: "kmip.certificates-end", Time: now.UTC().Format(time.RFC3339), Namespace: at.namespace(), Mount: at.Mount.Path,
		Before: int64(before / time.Second), Certificates: certs,
	})
	return raw
}

// signature is what a request's header says, for the address to know whose it is and when it
// was made.
func signature(secret string, body []byte, now time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.", now.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%x", now.Unix(), mac.Sum(nil))
}
