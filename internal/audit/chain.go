package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/chain"
	"arca/internal/errs"
	"arca/internal/storage"
)

// chainDir is where the ends of chains are kept, by the ids of devices and nodes:
// each node writes a chain of its own. It is not below dir: a change there is none
// of the devices.
const chainDir = "n/root/auditchain/"

const (
	// saveEvery is how long a chain may grow before its end is kept in the store.
	saveEvery = 10 * time.Second
	// firstTail and maxTail bound how much of a file's end is read to find the end
	// of its chain, in bytes.
	firstTail = 64 << 10
	maxTail   = 64 << 20
)

// A tailed sink can be read from its end.
type tailed interface {
	// tail returns the last n bytes, and whether that is all there is.
	tail(n int64) (end []byte, all bool, err error)
}

// A chained is the chain of a device's records (option hash_chain). Its end is
// known from the file, and from the store, which knows it even when the file was
// moved away or cut off while the server was down.
type chained struct {
	link *chain.Link
	kept func() (chain.Head, error) // what the store has
	save func(chain.Head)           // starts to keep an end in the store

	// Of the writer.
	begun bool
	head  chain.Head
	heads []chain.Head // behind each line on its way
	ends  []int        // of the lines in buf
	buf   []byte
	lines [][]byte
	saved time.Time

	mu   sync.Mutex
	told chain.Head // guarded by mu: the end that others may know
}

func newChained(salt []byte) (*chained, error) {
	key, err := hkdf.Key(sha256.New, salt, nil, "arca audit: chain", sha256.Size)
	if err != nil {
		return nil, err
	}
	return &chained{link: chain.NewLink(key)}, nil
}

// begin finds the end of the chain: that which is further of the file's and the
// store's. Lines whose mac is not ours do not count. What neither knows begins
// anew.
func (c *chained) begin(s sink) error {
	kept, err := c.kept()
	if err != nil {
		return err
	}
	found := kept
	if t, ok := s.(tailed); ok {
		have, err := c.find(t)
		if err != nil {
			return fmt.Errorf("read the end of the audit file's chain: %w", err)
		}
		if have.Seq > 0 && (have.ID != kept.ID || have.Seq > kept.Seq) {
			found = have
		}
	}
	if found.Seq == 0 {
		found = chain.Start()
	}
	c.head, c.begun = found, true
	return nil
}

func (c *chained) find(t tailed) (chain.Head, error) {
	for n := int64(firstTail); ; n *= 8 {
		end, all, err := t.tail(n)
		if err != nil {
			return chain.Head{}, err
		}
		for len(end) > 0 {
			from := bytes.LastIndexByte(end[:len(end)-1], '\n') + 1
			if from == 0 && !all {
				break // the line may have begun before
			}
			if r, _, ok := chain.Parse(end[from:]); ok && c.link.Holds(r) {
				return r.Head, nil
			}
			end = end[:from]
		}
		if all || n >= maxTail {
			return chain.Head{}, nil
		}
	}
}

// tie returns the lines with their members of the chain.
func (c *chained) tie(lines [][]byte) [][]byte {
	c.buf, c.heads, c.lines = c.buf[:0], c.heads[:0], c.lines[:0]
	head := c.head
	c.ends = c.ends[:0]
	for _, l := range lines {
		c.buf = c.link.Append(c.buf, &head, l)
		c.heads = append(c.heads, head)
		c.ends = append(c.ends, len(c.buf))
	}
	from := 0
	for _, to := range c.ends {
		c.lines = append(c.lines, c.buf[from:to])
		from = to
	}
	return c.lines
}

// took moves the end behind the first n of the lines that were tied last.
func (c *chained) took(n int) {
	if n == 0 {
		return
	}
	c.head = c.heads[n-1]
	if cap(c.buf) > maxBatchBytes {
		c.buf = nil
	}
	c.mu.Lock()
	c.told = c.head
	c.mu.Unlock()
	// The first record tries the device, which is not stored yet.
	if now := time.Now(); c.head.Seq > 1 && now.Sub(c.saved) > saveEvery {
		c.saved = now
		c.save(c.head)
	}
}

// end is the end of the chain so far; Seq is 0 before the first record.
func (c *chained) end() chain.Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// chainFor gives a device its chain, if it is to have one.
func (b *Broker) chainFor(r row) (*chained, error) {
	on := false
	if err := flag(r.Options, "hash_chain", &on); err != nil || !on {
		return nil, err
	}
	if r.Options["format"] == "jsonx" || r.Options["prefix"] != "" {
		return nil, errs.New(errs.Invalid, "hash_chain needs the format json, without a prefix")
	}
	c, err := newChained(r.Salt)
	if err != nil {
		return nil, err
	}
	c.kept = func() (head chain.Head, err error) {
		err = b.cfg.DB.View(context.Background(), func(tx storage.Tx) (err error) {
			head, err = keptHead(tx, r.ID, b.cfg.Node)
			return err
		})
		return head, err
	}
	c.save = func(h chain.Head) { b.work.Go(func() { b.keep(r, h) }) }
	return c, nil
}

type headRow struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	Seq     uint64 `json:"seq"`
	Hash    string `json:"hash"`
}

// alone names the node that shares its store with no other.
const alone = "-"

func headKey(device, node string) string {
	if node == "" {
		node = alone
	}
	return chainDir + device + "/" + node
}

func keptHead(tx storage.Tx, device, node string) (h chain.Head, err error) {
	r, err := storage.GetJSON[headRow](tx, headKey(device, node))
	if errors.Is(err, storage.ErrNotFound) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	return r.head()
}

func (r *headRow) head() (h chain.Head, err error) {
	raw, err := hex.DecodeString(r.Hash)
	if err != nil || len(raw) != len(h.Hash) {
		return h, errors.New("the end of an audit device's chain cannot be decoded")
	}
	h.ID, h.Seq = r.ID, r.Seq
	copy(h.Hash[:], raw)
	return h, nil
}

// An End is how far the chain of a device on a node is.
type End struct {
	Device string `json:"device"` // its id
	Node   string `json:"node"`
	ID     string `json:"id"`
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"` // in hexadecimal
}

// KeepEnds stores the ends of all chains, before the node may not write any more.
func (b *Broker) KeepEnds() {
	for _, d := range b.set.Load().devices {
		if d.chain != nil {
			b.keep(d.row, d.chain.end())
		}
	}
}

// keepTime bounds how long a store that does not answer holds up a stop.
const keepTime = 2 * time.Second

// keep stores the end of a device's chain on this node. A standby has the active
// node do that.
func (b *Broker) keep(r row, h chain.Head) {
	if h.Seq == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepTime)
	defer cancel()
	end := End{Device: r.ID, Node: b.cfg.Node, ID: h.ID, Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:])}
	err := b.Keep(ctx, end)
	if errors.Is(err, storage.ErrNotActive) && b.cfg.Elsewhere != nil {
		err = b.cfg.Elsewhere(ctx, end)
	}
	if err != nil {
		b.log.Warn("the end of an audit device's chain was not kept; its file tells it, too", "device", r.Path, "error", err)
	}
}

// Keep stores how far a chain is, unless its device is gone or a later end is
// there. The error is storage.ErrNotActive on a standby.
func (b *Broker) Keep(ctx context.Context, end End) error {
	if end.Node == "" {
		end.Node = alone
	}
	if strings.ContainsAny(end.Node+end.Device, "/\x00") || len(end.Node) > 256 || len(end.ID) > 64 || len(end.Hash) != hex.EncodedLen(len(chain.Head{}.Hash)) {
		return errs.New(errs.Invalid, "the end of an audit device's chain names no node or device")
	}
	return b.cfg.DB.Update(ctx, func(tx storage.Tx) error {
		rows, err := readRows(tx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(rows, func(r row) bool { return r.ID == end.Device }) {
			return nil
		}
		if have, err := keptHead(tx, end.Device, end.Node); err != nil || have.ID == end.ID && have.Seq >= end.Seq {
			return err
		}
		return storage.PutJSON(tx, headKey(end.Device, end.Node), headRow{Version: 1, ID: end.ID, Seq: end.Seq, Hash: end.Hash})
	})
}

// forgetEnds removes what is kept of a device's chains.
func forgetEnds(tx storage.Tx, device string) error {
	nodes, err := tx.List(chainDir+device+"/", "", 0)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := tx.Delete(headKey(device, n)); err != nil {
			return err
		}
	}
	return nil
}

// Ends returns how far the chains of the device at path are, by the nodes that
// write them: of this one as it is, of others as they told last. The error is as
// Chain's.
func (b *Broker) Ends(tx storage.Tx, path string) (map[string]chain.Head, error) {
	own, err := b.Chain(path)
	if err != nil {
		return nil, err
	}
	out := map[string]chain.Head{}
	for _, d := range b.set.Load().devices {
		if d.row.Path != path {
			continue
		}
		nodes, err := tx.List(chainDir+d.row.ID+"/", "", 0)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			if out[n], err = keptHead(tx, d.row.ID, n); err != nil {
				return nil, err
			}
		}
	}
	if own.Seq > 0 {
		out[cmp.Or(b.cfg.Node, alone)] = own
	}
	return out, nil
}

// Chain returns the end of the chain of the device at path so far. The error is
// Invalid when there is no such device or it has no chain.
func (b *Broker) Chain(path string) (chain.Head, error) {
	c, err := b.chainAt(path)
	if err != nil {
		return chain.Head{}, err
	}
	return c.end(), nil
}

// Holds reports whether a record that claims to be of the device at path has its
// mac. The error is as Chain's.
func (b *Broker) Holds(path string, r chain.Record) (bool, error) {
	if _, err := b.chainAt(path); err != nil {
		return false, err
	}
	for _, d := range b.set.Load().devices {
		if d.row.Path == path {
			own, err := newChained(d.row.Salt) // the writer's is in use
			return err == nil && own.link.Holds(r), err
		}
	}
	return false, nil
}

func (b *Broker) chainAt(path string) (*chained, error) {
	for _, d := range b.set.Load().devices {
		switch {
		case d.row.Path != path:
		case d.chain == nil:
			return nil, errs.New(errs.Invalid, "the audit device %q has no chain: enable it with hash_chain=true", path)
		default:
			return d.chain, nil
		}
	}
	return nil, errs.New(errs.Invalid, "unknown audit backend %q", path)
}

// tail implements tailed. What is not a regular file has no end to read.
func (s *fileSink) tail(n int64) (end []byte, all bool, err error) {
	info, err := os.Stat(s.path)
	if s.standard() != nil || err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, true, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	n = min(n, info.Size())
	end = make([]byte, n)
	if _, err := f.ReadAt(end, info.Size()-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	return end, n == info.Size(), nil
}
