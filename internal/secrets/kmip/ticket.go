package kmip

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Tickets are what Login gives (KMIP 2.0, section 6.1.27): a client shows one beside
// its certificate, and may do no more than what the ticket says. A ticket is of use to
// the role that it was given to, and to no other.
const (
	ticketBytes   = 32
	ticketLife    = time.Hour // where the client asks for no time
	maxTicketLife = 24 * time.Hour
	maxTickets    = 1000 // of a role
	maxRights     = 100
)

// A ticket is what is kept of one.
type ticket struct {
	Version int       `json:"v"`
	Expires time.Time `json:"exp"`
	Counted bool      `json:"c,omitempty"` // it is good for Left requests
	Left    int64     `json:"l,omitempty"`
	Limited bool      `json:"r,omitempty"` // to Rights
	Rights  []right   `json:"rights,omitempty"`
}

// A right is operations, with all objects or with some.
type right struct {
	Operations []uint32 `json:"ops,omitempty"` // none: all
	Objects    []string `json:"ids,omitempty"` // none: all
}

func ticketDir(scope, role string) string { return "k/" + scope + "/" + role + "/" }

func (b *batch) ticketKey(value []byte) string {
	sum := sha256.Sum256(value)
	return ticketDir(b.scope, b.role.ID) + hex.EncodeToString(sum[:])
}

var errTicket = fail(ttlv.ResultReasonInvalidTicket, "the ticket is not, or no longer, valid")

// admit takes the ticket of a message. A fault is the answer to all its items.
func (b *batch) admit(value []byte) (*fault, error) {
	key := b.ticketKey(value)
	t, err := storage.GetJSON[ticket](b.tx, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && b.now.After(t.Expires) {
		return errTicket, nil
	}
	if err != nil {
		return nil, err
	}
	b.ticket = t
	if !t.Counted {
		return nil, nil
	}
	if t.Left <= 0 {
		return fail(ttlv.ResultReasonUsageLimitExceeded, "the ticket was good for so many requests"), nil
	}
	t.Left--
	return nil, storage.PutJSON(b.tx, key, t)
}

// allows reports whether the ticket, if there is one, allows an operation with an
// object; "" is none.
func (b *batch) allows(code uint32, id string) bool {
	if b.ticket == nil || !b.ticket.Limited {
		return true
	}
	return slices.ContainsFunc(b.ticket.Rights, func(r right) bool {
		return (len(r.Operations) == 0 || slices.Contains(r.Operations, code)) && (len(r.Objects) == 0 || id != "" && slices.Contains(r.Objects, id))
	})
}

// mentions reports whether the ticket allows an operation with some object.
func (b *batch) mentions(code uint32) bool {
	if b.ticket == nil || !b.ticket.Limited {
		return true
	}
	return slices.ContainsFunc(b.ticket.Rights, func(r right) bool { return len(r.Operations) == 0 || slices.Contains(r.Operations, code) })
}

func (b *batch) login(p *ttlv.Node) (*ttlv.Node, error) { return b.issueTicket(p, nil) }

func (b *batch) delegatedLogin(p *ttlv.Node) (*ttlv.Node, error) {
	rights := p.Get(ttlv.TagRights)
	if rights == nil {
		return nil, missing("Rights")
	}
	list := []right{}
	for _, n := range rights.All(ttlv.TagRight) {
		var r right
		for _, op := range n.Get(ttlv.TagOperations).All(ttlv.TagOperation) {
			r.Operations = append(r.Operations, uint32(op.Int))
		}
		for _, o := range n.Get(ttlv.TagObjects).All(ttlv.TagUniqueIdentifier) {
			id, err := b.textID(o)
			if err != nil {
				return nil, err
			}
			r.Objects = append(r.Objects, id)
		}
		if len(r.Operations) > maxRights || len(r.Objects) > maxRights || len(list) == maxRights {
			return nil, newer(invalid("a ticket has at most %d rights, each with as many operations and objects", maxRights), ttlv.ResultReasonServerLimitExceeded)
		}
		list = append(list, r)
	}
	return b.issueTicket(p, list)
}

func (b *batch) issueTicket(p *ttlv.Node, rights []right) (*ttlv.Node, error) {
	if b.ticket != nil {
		return nil, denied("a ticket gives no tickets")
	}
	t := ticket{Version: 1, Expires: b.now.Add(ticketLife), Limited: rights != nil, Rights: rights}
	if n := p.Get(ttlv.TagLeaseTime); n != nil && n.Int > 0 {
		t.Expires = b.now.Add(min(time.Duration(n.Int)*time.Second, maxTicketLife))
	}
	if n := p.Get(ttlv.TagRequestCount); n != nil && n.Int > 0 {
		t.Counted, t.Left = true, n.Int
	}
	n, err := count(b.tx, ticketDir(b.scope, b.role.ID), maxTickets)
	if err != nil {
		return nil, err
	}
	if n >= maxTickets {
		return nil, newer(fail(ttlv.ResultReasonGeneralFailure, "a role has at most %d tickets at a time", maxTickets), ttlv.ResultReasonServerLimitExceeded)
	}
	value := make([]byte, ticketBytes)
	if _, err := rand.Read(value); err != nil {
		return nil, err
	}
	key := b.ticketKey(value)
	if err := storage.PutJSON(b.tx, key, t); err != nil {
		return nil, err
	}
	if err := b.tx.Put(dueKey(t.Expires.Add(time.Second), "k", key), nil); err != nil {
		return nil, err
	}
	return response(ttlv.Struct(ttlv.TagTicket, ttlv.Enum(ttlv.TagTicketType, ttlv.TicketTypeLogin), ttlv.Bytes(ttlv.TagTicketValue, value))), nil
}

func (b *batch) logout(p *ttlv.Node) (*ttlv.Node, error) {
	value := bytesField(p.Get(ttlv.TagTicket), ttlv.TagTicketValue)
	if value == nil {
		return nil, missing("Ticket")
	}
	key := b.ticketKey(value)
	if _, err := b.tx.Get(key); errors.Is(err, storage.ErrNotFound) {
		return nil, errTicket
	} else if err != nil {
		return nil, err
	}
	return response(), b.tx.Delete(key)
}
