package cli

import (
	"encoding/hex"
	"strings"
	"testing"

	"arca/internal/ttlv"
)

// What the kmip commands send, print, and end with; test/testdata/session/kmip_cli.txt has them
// with a server.
func TestKMIPCommands(t *testing.T) {
	t.Parallel()
	const (
		failed = `{"data":{"response":"<KMIP><ResponseMessage><ResponseHeader></ResponseHeader><BatchItem><Operation type=\"Enumeration\" value=\"Get\"/>` +
			`<ResultStatus type=\"Enumeration\" value=\"OperationFailed\"/><ResultReason type=\"Enumeration\" value=\"ItemNotFound\"/>` +
			`<ResultMessage type=\"TextString\" value=\"none\"/></BatchItem></ResponseMessage></KMIP>"}}`
		attributes = `{"data":{"response":"<KMIP><ResponseMessage><ResponseHeader></ResponseHeader><BatchItem><Operation type=\"Enumeration\" value=\"GetAttributes\"/>` +
			`<ResultStatus type=\"Enumeration\" value=\"Success\"/><ResponsePayload><UniqueIdentifier type=\"TextString\" value=\"id1\"/>` +
			`<Attribute><AttributeName type=\"TextString\" value=\"State\"/><AttributeValue type=\"Enumeration\" value=\"Active\"/></Attribute>` +
			`<Attribute><AttributeName type=\"TextString\" value=\"Cryptographic Usage Mask\"/><AttributeValue type=\"Integer\" value=\"Encrypt Decrypt\"/></Attribute>` +
			`</ResponsePayload></BatchItem></ResponseMessage></KMIP>"}}`
		credentials = `{"data":{"keys":["1","2"],"key_info":{"1":{"expires_in":7200,"expiration":"b"},"2":{"expires_in":60,"expiration":"a"}}}}`
		objects     = `{"data":{"keys":["a","b"],"key_info":{"a":{"state":"Active","last_used":{"time":"2020-01-01T00:00:00Z","operation":"Get","role":"r","serial_number":"7"}},` +
			`"b":{"state":"Active","last_used":{"time":"2999-01-01T00:00:00Z","operation":"Get","role":"r"}}}}}`
	)
	for _, tc := range []struct {
		name    string
		args    []string
		answers map[string]answer
		sent    string // the last request
		want    result
	}{
		{
			"a message whose operation fails",
			[]string{"kmip", "send", "s", "r", "get", "unique_identifier=x"},
			map[string]answer{"POST kmip/scope/s/role/r/client/get": {body: failed}},
			`POST /v1/kmip/scope/s/role/r/client/get {"params":{"unique_identifier":"x"}}`,
			result{code: 2, out: "Operation    Get\nStatus       OperationFailed\nReason       ItemNotFound\nMessage      none\n"},
		},
		{
			"get that fails",
			[]string{"kmip", "get", "-mount=keys/", "-name=n", "s", "r"},
			map[string]answer{"POST keys/scope/s/role/r/client": {body: failed}},
			`POST /v1/keys/scope/s/role/r/client {"params":{"name":"n"},"template":"locate_get"}`,
			result{code: 2, stderr: "Get: ItemNotFound: none\n"},
		},
		{
			"attributes",
			[]string{"kmip", "send", "s", "r", "GetAttributes", "unique_identifier=id1"},
			map[string]answer{"POST kmip/scope/s/role/r/client/getattributes": {body: attributes}},
			`POST /v1/kmip/scope/s/role/r/client/getattributes {"params":{"unique_identifier":"id1"}}`,
			result{out: "Operation                   GetAttributes\nStatus                      Success\nState                       Active\n" +
				"Cryptographic Usage Mask    Encrypt Decrypt\nUniqueIdentifier            id1\n"},
		},
		{
			"no answer",
			[]string{"kmip", "create", "s", "r"},
			nil, `POST /v1/kmip/scope/s/role/r/client/create {}`,
			result{code: 2, stderr: "Error sending the message: Error making API request.\n\nURL: POST {{addr}}/v1/kmip/scope/s/role/r/client/create\nCode: 403. Errors:\n\n* permission denied\n"},
		},
		{
			"certificates, the first to end first",
			[]string{"kmip", "credential", "list", "s", "r"},
			map[string]answer{"GET kmip/scope/s/role/r/credential?detail=true&list=true": {body: credentials}},
			"",
			result{out: "Keys    expiration    expires_in\n----    ----------    ----------\n2       a             60\n1       b             7200\n"},
		},
		{
			"certificates that end soon",
			[]string{"kmip", "credential", "list", "-ending=1h", "-format=json", "s", "r"},
			map[string]answer{"GET kmip/scope/s/role/r/credential?detail=true&list=true": {body: credentials}},
			"",
			result{out: "{\n  \"key_info\": {\n    \"2\": {\n      \"expiration\": \"a\",\n      \"expires_in\": 60\n    }\n  },\n  \"keys\": [\n    \"2\"\n  ]\n}\n"},
		},
		{
			"certificates, none of which end",
			[]string{"kmip", "credential", "list", "-ending=1s", "s", "r"},
			map[string]answer{"GET kmip/scope/s/role/r/credential?detail=true&list=true": {body: credentials}},
			"",
			result{code: 2, stderr: "No value found at kmip/scope/s/role/r/credential\n"},
		},
		{
			"objects that nobody uses",
			[]string{"kmip", "object", "list", "-unused=30d", "s"},
			map[string]answer{"GET kmip/scope/s/object?detail=true&limit=500&list=true": {body: objects}},
			"",
			result{out: "Keys    last_used                          state\n----    ---------                          -----\na       2020-01-01T00:00:00Z Get by r (7)    Active\n"},
		},
		{
			"fewer objects than there are",
			[]string{"kmip", "object", "list", "-limit=1", "-format=json", "s"},
			map[string]answer{"GET kmip/scope/s/object?detail=true&limit=500&list=true": {body: `{"data":{"keys":["a","b"],"key_info":{}}}`}},
			"",
			result{out: "{\n  \"key_info\": {\n    \"a\": null\n  },\n  \"keys\": [\n    \"a\"\n  ]\n}\n", stderr: "There are more: go on with -after=a\n"},
		},
		{
			"trace",
			[]string{"kmip", "trace", "start", "-duration=1h", "4711"},
			map[string]answer{"POST kmip/trace/4711": {status: 204}},
			`POST /v1/kmip/trace/4711 {"duration":"1h0m0s"}`,
			result{out: "Success! Messages are kept of: 4711\n"},
		},
		{
			"revoke",
			[]string{"kmip", "object", "revoke", "-reason=KeyCompromise", "s", "id1"},
			map[string]answer{"POST kmip/scope/s/object/id1/revoke": {status: 204}},
			`POST /v1/kmip/scope/s/object/id1/revoke {"reason":"KeyCompromise"}`,
			result{out: "Success! Done at: kmip/scope/s/object/id1/revoke\n"},
		},
		{
			"client",
			[]string{"kmip", "client", "read", "-field=messages", "4711"},
			map[string]answer{"GET kmip/client/4711": {body: `{"data":{"messages":3,"operations":{"get":3}}}`}},
			"",
			result{out: "3"},
		},
		{"no operation", []string{"kmip", "send", "s", "r"}, nil, "", result{code: 1, stderr: "Name the operations, or give -template\n"}},
		{"no limit", []string{"kmip", "object", "list", "-limit=0", "s"}, nil, "", result{code: 1, stderr: "-limit must be at least 1\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, tc.answers)
			got := vault(t, f.env(), "", tc.args...)
			got.stderr = f.shown(got.stderr)
			if got.code != tc.want.code || blanks(got.out) != blanks(tc.want.out) || got.stderr != tc.want.stderr {
				t.Errorf("got code %d\nstdout:\n%s\nstderr:\n%s\nwant code %d\nstdout:\n%s\nstderr:\n%s",
					got.code, got.out, got.stderr, tc.want.code, tc.want.out, tc.want.stderr)
			}
			if tc.sent != "" && f.last() != tc.sent {
				t.Errorf("sent\n%s\nwant\n%s", f.last(), tc.sent)
			}
		})
	}
}

// What clients of KMIP have written reaches no terminal but as text in its place.
func TestKMIPPrintable(t *testing.T) {
	t.Parallel()
	const item = `{"data":{"response":"<KMIP><ResponseMessage><ResponseHeader></ResponseHeader><BatchItem><Operation type=\"Enumeration\" value=\"Get\"/>`
	f := newFake(t, map[string]answer{
		"GET kmip/scope/s/object?detail=true&limit=500&list=true": {body: `{"data":{"keys":["a\u009b1m"],"key_info":{"a\u009b1m":{"name":"\u001b]0;x\u0007\nb"}}}}`},
		"GET kmip/scope/s/object/a":                               {body: `{"data":{"attributes":{"x-\u001b[31m":"\u001b]52;c;cHduZWQ=\u0007","y":["\u202ea\u2066","\u2028b\u007f"]}}}`},
		"GET kmip/client/1":                                       {body: `{"data":{"last_failure":{"text":"\u001b[8m\r\n"}}}`},
		"GET kmip/trace/1":                                        {body: `{"data":{"until":"u","messages":[{"time":"t","remote_address":"\u001br","request":"<a><b value=\"\u009b31m\"/></a>","response":"<b\u001b/>","response_hex":"\u001b"}]}}`},
		"POST kmip/scope/s/role/r/client/get": {body: item + `<ResultStatus type=\"Enumeration\" value=\"OperationFailed\"/><ResultReason type=\"Enumeration\" value=\"ItemNotFound\"/>` +
			`<ResultMessage type=\"TextString\" value=\"\u009b31m\"/></BatchItem></ResponseMessage></KMIP>"}}`},
		"POST kmip/scope/s/role/r/client": {body: item + `<ResultStatus type=\"Enumeration\" value=\"Success\"/><ResponsePayload><UniqueIdentifier type=\"TextString\" value=\"\u009b2J\"/></ResponsePayload>` +
			`</BatchItem></ResponseMessage></KMIP>"}}`},
	})
	for _, args := range []string{
		"object list s", "object read s a", "client read 1", "trace read 1", "trace read -hex 1", "get s r i", "get -name=n s r", "send s r get x=y",
	} {
		got := vault(t, f.env(), "", append([]string{"kmip"}, strings.Fields(args)...)...)
		if text := strings.ReplaceAll(got.out+got.stderr, "\n", ""); printable(text) != text || !strings.Contains(text, "?") {
			t.Errorf("%s: %q", args, text)
		}
	}
	if got := vault(t, f.env(), "", "kmip", "object", "list", "-format=json", "s"); !strings.Contains(got.out, `\u001b]0;x\u0007\nb`) {
		t.Errorf("in JSON it is another: %s", got.out)
	}
}

// So does what a server says to the doctor, and what is in a message that is decoded: there it
// stays what it was for who reads the XML.
func TestKMIPForeign(t *testing.T) {
	t.Parallel()
	const evil = "a\u009b31m\u202e\u2028\u007fb"
	report := &kmipReport{Address: evil, TLS: evil, Server: evil, Versions: []string{evil}, Operations: []string{evil}, Notes: []string{evil, "\x1b[2J\n"}, Faults: []string{evil}}
	for line := range strings.Lines(report.text()) {
		if line = strings.TrimSuffix(line, "\n"); printable(line) != line {
			t.Errorf("doctor: %q", line)
		}
	}
	if n := strings.Count(report.text(), "\n"); n != 8 {
		t.Errorf("doctor has %d lines", n)
	}
	message := ttlv.Struct(ttlv.TagRequestMessage, ttlv.Struct(ttlv.TagBatchItem, ttlv.Text(ttlv.TagUniqueIdentifier, evil)))
	got := vault(t, nil, hex.EncodeToString(message.Encode()), "kmip", "decode", "-")
	text := strings.TrimSuffix(got.out, "\n")
	if got.code != 0 || printable(text) != text {
		t.Errorf("decode: %d %q %s", got.code, got.out, got.stderr)
	}
	root, err := ttlv.NewTexts().DecodeXML([]byte(text))
	if err != nil || root.Get(ttlv.TagBatchItem).Get(ttlv.TagUniqueIdentifier).Text() != evil {
		t.Errorf("what was decoded is %q, %v", text, err)
	}
	f := newFake(t, map[string]answer{"POST kmip/scope/s/role/r/client/get": {body: `{"data":{"response":"<KMIP><ResponseMessage><ResponseHeader></ResponseHeader><BatchItem>` +
		`<ResultStatus type=\"Enumeration\" value=\"Success\"/><ResultMessage type=\"TextString\" value=\"\u009b31m\"/></BatchItem></ResponseMessage></KMIP>"}}`}})
	if got := vault(t, f.env(), "", "kmip", "send", "-format=raw", "s", "r", "get", "x=y"); !strings.Contains(got.out, "&#x9B;31m") {
		t.Errorf("send: %q %s", got.out, got.stderr)
	}
}

// An argument that would lead to another path is refused, before anything is asked.
func TestKMIPSegments(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	for _, args := range []string{
		"object destroy s %", "object destroy % a", "object revoke s %", "object activate s %", "object read s %", "object stats %", "object list %", "trace start %", "trace stop %", "trace read %",
		"client read %", "credential list s %", "template read %", "send s % get", "send s r %", "create % r", "get s % i", "locate % r",
	} {
		for _, bad := range []string{"", ".", "..", "a/../..", "a/b", "/"} {
			list := []string{"kmip"}
			for _, arg := range strings.Fields(args) {
				list = append(list, strings.ReplaceAll(arg, "%", bad))
			}
			if got := vault(t, f.env(), "", list...); got.code != 1 || !strings.Contains(got.stderr, "cannot be the name or the id of anything") {
				t.Errorf("%q: %d %s%s", list, got.code, got.out, got.stderr)
			}
		}
	}
	if f.last() != "" {
		t.Errorf("the server was asked: %s", f.last())
	}
}

// blanks is a table with one blank between its columns.
func blanks(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(out, "\n")
}
