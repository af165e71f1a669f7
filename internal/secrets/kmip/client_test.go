package kmip_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// The client API: messages by HTTP and a token, by the templates that are there and by
// those of the caller; never more than the role may do.
func TestClientAPI(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	s.Must("POST", "kmip/scope/finance/role/app", s.Root, all)
	s.Must("POST", "kmip/scope/finance/role/reader", s.Root, object{"operation_get": true, "operation_locate": true})
	const app = "kmip/scope/finance/role/app/client"
	send := func(path string, body object) string {
		t.Helper()
		return arcatest.Dig(s.Must("POST", path, s.Root, body), "data", "response").(string)
	}
	refused := func(path string, body object) {
		t.Helper()
		if code, out := s.Do("POST", path, s.Root, body); code != 400 {
			t.Errorf("%s %v: %d %v", path, body, code, out)
		}
	}
	names := arcatest.Dig(s.Must("LIST", "kmip/template", s.Root, nil), "data", "keys").([]any)
	if len(names) != 22 {
		t.Errorf("%d templates", len(names))
	}
	values := object{"unique_identifier": "none", "attr_name": "x-a", "attr_value": "b", "name": "none", "data": "00"}
	for _, n := range names { // each is a message that is understood
		shown := s.Must("GET", "kmip/template/"+n.(string), s.Root, nil)
		text := arcatest.Dig(shown, "data", "template").(string)
		if !strings.Contains(text, "<RequestMessage>") || strings.Contains(text, "?<") || len(arcatest.Dig(shown, "data", "parameters").([]any)) == 0 {
			t.Errorf("%s: %s", n, text)
		}
		if out := send("kmip/scope/finance/role/reader/client", object{"template": n, "params": values}); !strings.HasPrefix(out, "<KMIP><ResponseMessage>") {
			t.Errorf("%s: %s", n, out)
		}
	}
	id := func(answer string) string {
		t.Helper()
		m := regexp.MustCompile(`<UniqueIdentifier type="TextString" value="([^"]+)"/>`).FindStringSubmatch(answer)
		if m == nil {
			t.Fatalf("no identifier in %s", answer)
		}
		return m[1]
	}
	has := func(answer string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(answer, p) {
				t.Errorf("no %q in %s", p, answer)
			}
		}
	}
	made := id(send(app+"/create", object{"name": `k "<&>'`, "length": 128}))
	has(send(app+"/get", object{"unique_identifier": made}), `value="128"`, "KeyMaterial")
	if got := id(send(app+"/locate/get", object{"name": `k "<&>'`})); got != made {
		t.Errorf("located %s, want %s", got, made)
	}
	has(send(app, object{"template": "locate_by_name", "name": "k"}), `value="Success"/><ResponsePayload>`)
	send(app+"/addattribute", object{"unique_identifier": made, "attr_name": "x-team", "attr_value": "db"})
	has(send(app+"/getattribute", object{"unique_identifier": made, "params": object{"attr_name": "x-team"}}), `value="db"`)
	if got := id(send(app+"/locate", object{"attr_name": "x-team", "attr_value": "db"})); got != made {
		t.Errorf("located %s, want %s", got, made)
	}
	activate := `<?xml version="1.0"?><KMIP><RequestMessage><RequestHeader><ProtocolVersion><ProtocolVersionMajor type="Integer" value="1"/><ProtocolVersionMinor type="Integer" value="2"/></ProtocolVersion>
<BatchCount type="Integer" value="1"/></RequestHeader><BatchItem><Operation type="Enumeration" value="Activate"/><RequestPayload>
<UniqueIdentifier type="TextString" value="PARAMETER_which"/></RequestPayload></BatchItem></RequestMessage></KMIP>`
	has(send(app, object{"template": activate, "params": object{"which": made}}), `value="Success"`, `<ProtocolVersionMinor type="Integer" value="2"/>`)
	sealed := send(app+"/locate/encrypt", object{"name": `k "<&>'`, "data": "616263"})
	part := func(tag string) string {
		return regexp.MustCompile(`<` + tag + ` type="ByteString" value="([0-9a-fA-F]+)"`).FindStringSubmatch(sealed)[1]
	}
	has(send(app+"/locate/decrypt", object{"name": `k "<&>'`, "data": part("Data"), "iv_counter_nonce": part("IVCounterNonce")}), `value="616263"`)
	has(send(app+"/revoke/destroy", object{"unique_identifier": made}), `value="Destroy"`)
	has(send(app+"/get", object{"unique_identifier": made}), "OperationFailed", "ItemNotFound")

	// A value is a value, and never a part of the message.
	evil := `x"/></RequestPayload></BatchItem><BatchItem><Operation type="Enumeration" value="Destroy"/>`
	has(send(app+"/get", object{"unique_identifier": evil}), "ItemNotFound")
	has(send("kmip/scope/finance/role/reader/client/create", object{}), "PermissionDenied")
	// Undo leaves nothing, and is answered all the same.
	undo := strings.Replace(strings.Replace(activate, "</ProtocolVersion>\n", `</ProtocolVersion><BatchErrorContinuationOption type="Enumeration" value="Undo"/>`, 1), `value="1"/></RequestHeader>`, `value="2"/></RequestHeader>`, 1)
	undo = strings.Replace(undo, "</BatchItem>", `<!-- --></BatchItem><BatchItem><Operation type="Enumeration" value="Destroy"/><UniqueBatchItemID type="ByteString" value="02"/><RequestPayload/></BatchItem>`, 1)
	other := id(send(app+"/create", object{}))
	answer := send(app, object{"template": undo, "params": object{"which": other}})
	has(answer, "OperationUndone", "ItemNotFound")
	has(send(app+"/getattributes", object{"unique_identifier": other}), `value="PreActive"`)

	refused(app, nil)
	refused(app+"/get", nil)
	refused(app+"/nothing", nil)
	refused(app, object{"template": "none"})
	refused(app, object{"template": "<RequestMessage/>"})
	refused(app, object{"template": "<!DOCTYPE x><RequestMessage/>"})
	refused(app+"/destroy", object{"template": "get", "unique_identifier": other})
	refused(app+"/get", object{"unique_identifier": other, "params": object{"x": []string{"y"}}})
	if code, _ := s.Do("POST", "kmip/scope/finance/role/none/client/create", s.Root, nil); code != 404 {
		t.Errorf("a role that is not there: %d", code)
	}
	// The policy sees the operations.
	s.Must("PUT", "sys/policies/acl/find", s.Root, object{"policy": fmt.Sprintf(`path "%s/locate" { capabilities = ["update"] }`, app)})
	token := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, object{"policies": []string{"find"}}), "auth", "client_token").(string)
	s.Must("POST", app+"/locate", token, object{"name": "k"})
	for _, path := range []string{app + "/get", app} {
		if code, _ := s.Do("POST", path, token, object{"template": "get", "unique_identifier": other}); code != 403 {
			t.Errorf("%s: %d", path, code)
		}
	}
}
