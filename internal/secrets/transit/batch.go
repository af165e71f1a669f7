package transit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

// An item is one thing to do: the whole request, or an element of batch_input.
// Texts alias the request. Which members are looked at depends on the operation.
type item struct {
	plaintext, ciphertext, input []byte
	context, nonce, aad, label   []byte // base64 as it came
	signature, hmac, cmac        []byte
	padding, reference           string
	version, macLength           int
	opening, sealing             string // paddings of the old and the new ciphertext
	hasPlaintext, hasInput       bool
}

// parseBatch reads batch_input. Vault answers what is wrong with its form with
// status 500 and this text.
func parseBatch(raw json.RawMessage) ([]item, error) {
	items := make([]item, 0, min(bytes.Count(raw, []byte{'{'}), param.MaxMembers))
	isArray, err := param.Objects(raw,
		func() { items = append(items, item{}) },
		func(key string, value json.RawMessage) error {
			return items[len(items)-1].take(len(items)-1, key, value)
		},
		func(value json.RawMessage) error {
			return fmt.Errorf("'[%d]' expected a map, got '%s'", len(items)-1, kindOf(value))
		})
	if err == nil && !isArray {
		err = fmt.Errorf("source data must be an array or slice, got %s", kindOf(raw))
	}
	if err != nil {
		return nil, errBatch(err.Error())
	}
	if len(items) == 0 {
		return nil, errs.New(errs.Invalid, "missing batch input to process")
	}
	return items, nil
}

func errBatch(text string) error {
	return errs.List(errs.Failed, "failed to parse batch input: "+text)
}

// kindOf names a JSON value as Vault's decoder does.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "map"
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	}
	return "json.Number"
}

// take keeps a member of item i.
func (it *item) take(i int, key string, value json.RawMessage) error {
	if string(value) == "null" {
		return nil
	}
	if key == "key_version" || key == "mac_length" {
		number := string(value)
		if text, isText := param.Text(value); isText {
			number = string(text)
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			return wrongType(i, key, "int", value)
		}
		if key == "mac_length" {
			it.macLength = n
		} else {
			it.version = n
		}
		return nil
	}
	to := it.member(key)
	text, isText := param.Text(value)
	kept := it.name(key)
	switch {
	case to == nil && kept == nil:
		return nil // unknown members are no errors
	case !isText:
		return wrongType(i, key, "string", value)
	case kept != nil:
		*kept = string(text)
	default:
		*to = text
	}
	return nil
}

// name is where a member that names something goes.
func (it *item) name(key string) *string {
	switch key {
	case "reference":
		return &it.reference
	case "padding_scheme":
		return &it.padding
	case "decrypt_padding_scheme":
		return &it.opening
	case "encrypt_padding_scheme":
		return &it.sealing
	}
	return nil
}

func wrongType(i int, key, want string, value json.RawMessage) error {
	return fmt.Errorf("'[%d].%s' expected type '%s', got unconvertible type '%s'", i, key, want, param.GoType(value))
}

// member is where the text of a member goes.
func (it *item) member(key string) *[]byte {
	switch key {
	case "plaintext":
		it.hasPlaintext = true
		return &it.plaintext
	case "ciphertext":
		return &it.ciphertext
	case "input":
		it.hasInput = true
		return &it.input
	case "context":
		return &it.context
	case "nonce":
		return &it.nonce
	case "associated_data":
		return &it.aad
	case "signature_context":
		return &it.label
	case "signature":
		return &it.signature
	case "hmac":
		return &it.hmac
	case "cmac":
		return &it.cmac
	}
	return nil
}

// results builds the body of an answer: members of one object, or those of each
// item in batch_results.
type results struct {
	out   []byte
	batch bool
	empty bool // nothing in the present object
	good  int  // items that succeeded
	bad   int
}

func newResults(batch bool, sizeHint int) *results {
	r := &results{out: make([]byte, 0, sizeHint+64), batch: batch}
	if batch {
		r.out = append(r.out, `{"batch_results":[`...)
	}
	return r
}

func (r *results) open() {
	if r.batch && r.good+r.bad > 0 {
		r.out = append(r.out, ',')
	}
	r.out, r.empty = append(r.out, '{'), true
}

// name appends a member's name, which is plain.
func (r *results) name(name string) {
	if !r.empty {
		r.out = append(r.out, ',')
	}
	r.empty = false
	r.out = append(append(append(r.out, '"'), name...), `":`...)
}

func (r *results) text(name, value string) {
	r.name(name)
	r.out = param.AppendString(r.out, value)
}

func (r *results) version(n int) {
	r.name("key_version")
	r.out = strconv.AppendInt(r.out, int64(n), 10)
}

func (r *results) boolean(name string, b bool) {
	r.name(name)
	r.out = strconv.AppendBool(r.out, b)
}

// close ends the present object. Items of a batch always show their reference.
func (r *results) close(it *item, failed bool) {
	if r.batch {
		r.text("reference", it.reference)
	}
	r.out = append(r.out, '}')
	if failed {
		r.bad++
	} else {
		r.good++
	}
}

// fail is a whole item that failed. rest adds the members that a failed item
// shows beside its error; nil is none.
func (r *results) fail(it *item, err error, rest func()) {
	r.open()
	r.text("error", err.Error())
	if rest != nil {
		rest()
	}
	r.close(it, true)
}

func (r *results) response() *engine.Response {
	if r.batch {
		r.out = append(r.out, "]}"...)
	}
	return &engine.Response{Data: json.RawMessage(r.out)}
}

// partial is the response of a batch in which some items may have failed: status
// 400 then, or what the request asks for when some succeeded.
func (r *results) partial(call *engine.Call, code *int) *engine.Response {
	res := r.response()
	if r.bad == 0 {
		return res
	}
	res.Status = 400
	if code != nil && r.good > 0 {
		if *code < 200 || *code > 599 {
			call.Warn("invalid HTTP response code override from partial_failure_response_code, reverting to %d", res.Status)
		} else {
			res.Status = *code
		}
	}
	return res
}

// shown says whether an error is the item's own, to be told in its result. What is
// our fault, or the end of the transaction, ends the request.
func shown(err error) bool { return errs.Is(err, errs.Invalid) }

// gone ends a batch whose client does not wait any more: one may take long.
func gone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errs.New(errs.Unavailable, "the client is gone: %w", err)
	}
	return nil
}
