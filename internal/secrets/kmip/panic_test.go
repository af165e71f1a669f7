package kmip

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"arca/internal/engine"
	"arca/internal/ttlv"
)

// A faulty is a hall in which something is broken.
type faulty struct {
	engine.Host
	log bytes.Buffer
}

func (h *faulty) Log() *slog.Logger { return slog.New(slog.NewTextHandler(&h.log, nil)) }

func (*faulty) Handle(context.Context, *engine.Request) (*engine.Response, error) {
	panic("something is broken")
}

// A panic is answered by General Failure and what the log has it under, and ends the connection only;
// so does one where there is nobody to answer.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := &faulty{}
	e := New()
	v := e.servers.of("m", h)
	defer v.close()
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m"}}})
	version14 := ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, 1), ttlv.Int(ttlv.TagProtocolVersionMinor, 4))
	raw := ttlv.Struct(ttlv.TagRequestMessage, ttlv.Struct(ttlv.TagRequestHeader, version14, ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, ttlv.OperationGet), ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, "of a client")))).Encode()
	answer, goOn := v.answer(raw, &tls.ConnectionState{}, netip.AddrPort{}, &connection{})
	root, err := ttlv.Decode(answer)
	if err != nil || goOn {
		t.Fatalf("it goes on: %t; %v", goOn, err)
	}
	item := root.Get(ttlv.TagBatchItem)
	text := item.Get(ttlv.TagResultMessage).Text()
	id := text[strings.LastIndexByte(text, ' ')+1:]
	if item.Get(ttlv.TagResultReason).Int != int64(ttlv.ResultReasonGeneralFailure) || len(id) != 36 || strings.Contains(text, "broken") {
		t.Errorf("the answer is %q", text)
	}
	if log := h.log.String(); !strings.Contains(log, "id="+id) || !strings.Contains(log, "something is broken") || strings.Contains(log, "of a client") {
		t.Errorf("the log has %s", log)
	}
	h.log.Reset()
	v.guarded(func() { panic("of a parser") })
	if log := h.log.String(); !strings.Contains(log, "of a parser") {
		t.Errorf("the log has %s", log)
	}
}
