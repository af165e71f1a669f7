package kmip

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/ttlv"
)

// The client API: messages of KMIP, in XML, by HTTP and a token, on behalf of a role.
// A message is a template with marks (PARAMETER_name) that parameters take the place of,
// the caller's own or one that is there. What the role may not do, it may not do so either.

const (
	mark          = "PARAMETER_"
	maxParamBytes = 1 << 20 // of all parameters
	templateMinor = 4       // the templates here are of KMIP 1.4
)

// parts are what the templates here are made of: the payloads of operations. A line with
// a mark that has no value, and no usual one, is left out where it is optional, which a
// question mark in front of it says.
func parts(name string) string {
	attribute := `<Attribute><AttributeName type="TextString" value="PARAMETER_attr_name"/><AttributeValue type="PARAMETER_attr_type" value="PARAMETER_attr_value"/></Attribute>`
	named := func(prefix string) string {
		return prefix + `<Attribute><AttributeName type="TextString" value="Name"/><AttributeValue><NameValue type="TextString" value="PARAMETER_name"/><NameType type="Enumeration" value="UninterpretedTextString"/></AttributeValue></Attribute>`
	}
	crypt := `<CryptographicParameters><BlockCipherMode type="Enumeration" value="PARAMETER_block_cipher_mode"/><PaddingMethod type="Enumeration" value="PARAMETER_padding_method"/></CryptographicParameters>
<Data type="ByteString" value="PARAMETER_data"/>
?<IVCounterNonce type="ByteString" value="PARAMETER_iv_counter_nonce"/>`
	switch name {
	case "create":
		return `<ObjectType type="Enumeration" value="SymmetricKey"/>
<TemplateAttribute>
<Attribute><AttributeName type="TextString" value="Cryptographic Algorithm"/><AttributeValue type="Enumeration" value="PARAMETER_algorithm"/></Attribute>
<Attribute><AttributeName type="TextString" value="Cryptographic Length"/><AttributeValue type="Integer" value="PARAMETER_length"/></Attribute>
<Attribute><AttributeName type="TextString" value="Cryptographic Usage Mask"/><AttributeValue type="Integer" value="PARAMETER_usage_mask"/></Attribute>
` + named("?") + `
</TemplateAttribute>`
	case "locate":
		return named("?") + "\n?" + attribute
	case "locate_by_name":
		return named("")
	case "addattribute", "modifyattribute":
		return attribute
	case "getattribute":
		return `<AttributeName type="TextString" value="PARAMETER_attr_name"/>`
	case "revoke":
		return `<RevocationReason><RevocationReasonCode type="Enumeration" value="PARAMETER_revocation_reason_code"/></RevocationReason>`
	case "encrypt", "decrypt":
		return crypt
	}
	return "" // the identifier, where there is one, is all
}

// usualParams are the values of parameters that need not be given.
func usualParams() map[string]string {
	return map[string]string{
		"algorithm": "AES", "length": "256", "usage_mask": "Encrypt Decrypt", "attr_type": "TextString", "block_cipher_mode": "CBC", "padding_method": "PKCS5",
		"revocation_reason_code": "CessationOfOperation",
	}
}

func templateNames() []string {
	return []string{
		"addattribute", "create", "destroy", "get", "getattribute", "getattributelist", "getattributes", "locate", "locate_addattribute", "locate_by_name",
		"locate_decrypt", "locate_encrypt", "locate_get", "locate_getattribute", "locate_getattributelist", "locate_getattributes", "locate_modifyattribute",
		"locate_revoke", "locate_revoke_destroy", "modifyattribute", "revoke", "revoke_destroy",
	}
}

func operationTags() map[string]string {
	return map[string]string{
		"addattribute": "AddAttribute", "create": "Create", "destroy": "Destroy", "get": "Get", "getattribute": "GetAttributes", "getattributelist": "GetAttributeList",
		"getattributes": "GetAttributes", "locate": "Locate", "locate_by_name": "Locate", "decrypt": "Decrypt", "encrypt": "Encrypt", "modifyattribute": "ModifyAttribute", "revoke": "Revoke",
	}
}

// templateOf writes one of the templates that are there; "" for a name that is none.
func templateOf(name string) string {
	if !slices.Contains(templateNames(), name) {
		return ""
	}
	steps := strings.Split(name, "_")
	if name == "locate_by_name" {
		steps = []string{name}
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<RequestMessage>
<RequestHeader>
<ProtocolVersion><ProtocolVersionMajor type="Integer" value="1"/><ProtocolVersionMinor type="Integer" value="%d"/></ProtocolVersion>
<BatchCount type="Integer" value="%d"/>
</RequestHeader>
`, templateMinor, len(steps))
	for i, step := range steps {
		out.WriteString("<BatchItem>\n<Operation type=\"Enumeration\" value=\"" + operationTags()[step] + "\"/>\n")
		if len(steps) > 1 {
			fmt.Fprintf(&out, "<UniqueBatchItemID type=\"ByteString\" value=\"%02x\"/>\n", i+1)
		}
		out.WriteString("<RequestPayload>\n")
		if steps[0] != "locate" && step != "create" && step != "locate_by_name" { // else it is the placeholder
			out.WriteString("<UniqueIdentifier type=\"TextString\" value=\"PARAMETER_unique_identifier\"/>\n")
		}
		if step == "locate" && len(steps) > 1 {
			step = "locate_by_name"
		}
		if p := parts(step); p != "" {
			out.WriteString(p + "\n")
		}
		out.WriteString("</RequestPayload>\n</BatchItem>\n")
	}
	return out.String() + "</RequestMessage>\n"
}

func (e *Engine) listTemplates(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return data(map[string]any{"keys": templateNames()}), nil
}

type templateIn struct {
	Name string `api:"name" help:"Name of the template."`
}

func (e *Engine) readTemplate(_ context.Context, _ *engine.Call, in templateIn) (*engine.Response, error) {
	t := templateOf(in.Name)
	if t == "" {
		return nil, errNotFound
	}
	names := []string{}
	for _, m := range e.marks.FindAllString(t, -1) {
		if n := strings.TrimPrefix(m, mark); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return data(map[string]any{"template": strings.ReplaceAll(t, "\n?", "\n"), "parameters": names}), nil
}

func marksPattern() *regexp.Regexp {
	return regexp.MustCompile(mark + `[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*`)
}

type clientIn struct {
	roleIn
	Operations string         `api:"operations" help:"The operations of the message, with slashes between them; they choose the template when none is given."`
	Template   string         `api:"template" help:"Name of a template, or a message in XML with marks PARAMETER_name."`
	Params     map[string]any `api:"params" help:"Values for the marks, by name."`

	Algorithm  *string `api:"algorithm" help:"Value for PARAMETER_algorithm."`
	AttrName   *string `api:"attr_name" help:"Value for PARAMETER_attr_name."`
	AttrType   *string `api:"attr_type" help:"Value for PARAMETER_attr_type."`
	AttrValue  *string `api:"attr_value" help:"Value for PARAMETER_attr_value."`
	Mode       *string `api:"block_cipher_mode" help:"Value for PARAMETER_block_cipher_mode."`
	Data       *string `api:"data" help:"Value for PARAMETER_data, in hexadecimal."`
	Nonce      *string `api:"iv_counter_nonce" help:"Value for PARAMETER_iv_counter_nonce, in hexadecimal."`
	Length     *string `api:"length" help:"Value for PARAMETER_length."`
	Name       *string `api:"name" help:"Value for PARAMETER_name."`
	Padding    *string `api:"padding_method" help:"Value for PARAMETER_padding_method."`
	Reason     *string `api:"revocation_reason_code" help:"Value for PARAMETER_revocation_reason_code."`
	Identifier *string `api:"unique_identifier" help:"Value for PARAMETER_unique_identifier."`
	Mask       *string `api:"usage_mask" help:"Value for PARAMETER_usage_mask: names with spaces between them."`
}

// values are the parameters of a request; those by their own name come after those of
// params.
func (in *clientIn) values() (map[string]string, error) {
	out := map[string]string{}
	size := 0
	for name, v := range in.Params {
		switch v := v.(type) {
		case string:
			out[name] = v
		case float64:
			out[name] = strconv.FormatFloat(v, 'f', -1, 64)
		case json.Number, bool:
			out[name] = fmt.Sprint(v)
		default:
			return nil, errs.New(errs.Invalid, "params: %s must be a text", name)
		}
	}
	for name, v := range map[string]*string{
		"algorithm": in.Algorithm, "attr_name": in.AttrName, "attr_type": in.AttrType, "attr_value": in.AttrValue, "block_cipher_mode": in.Mode, "data": in.Data,
		"iv_counter_nonce": in.Nonce, "length": in.Length, "name": in.Name, "padding_method": in.Padding, "revocation_reason_code": in.Reason,
		"unique_identifier": in.Identifier, "usage_mask": in.Mask,
	} {
		if v != nil {
			out[name] = *v
		}
	}
	for _, v := range out {
		if size += len(v); size > maxParamBytes {
			return nil, errs.New(errs.Invalid, "the parameters have at most %d bytes", maxParamBytes)
		}
	}
	return out, nil
}

// filled is a template with its parameters in it, each escaped: a value is a value and
// nothing else.
func (e *Engine) filled(template string, values map[string]string) ([]byte, error) {
	usual := usualParams()
	lines := strings.Split(template, "\n")
	var out bytes.Buffer
	for _, line := range lines {
		optional := strings.HasPrefix(line, "?")
		line = strings.TrimPrefix(line, "?")
		absent := ""
		text := e.marks.ReplaceAllStringFunc(line, func(m string) string {
			name := strings.TrimPrefix(m, mark)
			v, ok := values[name]
			if !ok {
				v, ok = usual[name]
			}
			if !ok {
				absent = name
			}
			var b strings.Builder
			_ = xml.EscapeText(&b, []byte(v)) // a builder never fails
			return b.String()
		})
		if absent != "" && !optional {
			return nil, errs.New(errs.Invalid, "the parameter %s is required", absent)
		}
		if absent == "" {
			out.WriteString(text + "\n")
		}
		if out.Len() > 2*maxMessage+2*maxParamBytes {
			return nil, errs.New(errs.Invalid, "the message is too large")
		}
	}
	return out.Bytes(), nil
}

// clientMessage sends a message on behalf of a role.
func (e *Engine) clientMessage(ctx context.Context, call *engine.Call, in clientIn) (*engine.Response, error) {
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	m, err := e.clientRequest(&in)
	if err != nil {
		return nil, err
	}
	b := &batch{e: e, ctx: ctx, call: call, tx: call.Tx, now: call.Now, v: m.version}
	b.roleName = in.Role
	b.actsAs(s.ID, r)
	taken, err := e.servers.apiTakes(call, in.roleIn, r, len(m.items))
	if err != nil {
		return nil, err
	}
	var res *engine.Response
	var undone *engine.Undone
	if !taken {
		res = b.answered(m, b.refused(m, errLimited()))
	} else if res, err = b.serve(m); errors.As(err, &undone) {
		res = undone.Response
	} else if err != nil {
		return nil, err
	}
	e.servers.apiAnswered(call, in.roleIn, m, res.Raw.Body, taken)
	root, e2 := ttlv.Decode(res.Raw.Body)
	if e2 != nil {
		return nil, e2
	}
	out := data(map[string]any{"response": "<KMIP>" + string(e.texts().EncodeXML(root)) + "</KMIP>"})
	if undone != nil {
		return nil, &engine.Undone{Response: out}
	}
	return out, nil
}

// clientRequest makes the message of a request.
func (e *Engine) clientRequest(in *clientIn) (*message, error) {
	values, err := in.values()
	if err != nil {
		return nil, err
	}
	template, asked := in.Template, strings.ToLower(strings.Trim(in.Operations, "/"))
	switch {
	case template == "" && asked == "":
		return nil, errs.New(errs.Invalid, "give a template, or operations in the path")
	case template == "":
		template = strings.ReplaceAll(asked, "/", "_")
	case len(template) > maxMessage:
		return nil, errs.New(errs.Invalid, "template is too large")
	}
	text := strings.TrimSpace(template)
	if !strings.HasPrefix(text, "<") {
		if text = templateOf(template); text == "" {
			return nil, errs.New(errs.Invalid, "there is no template %q", template)
		}
	} else { // of the caller: none of its lines is optional, whatever it begins with
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r", " "), "\n", " ")
	}
	if strings.HasPrefix(text, "<?") {
		_, text, _ = strings.Cut(text, "?>")
		text = strings.TrimSpace(text)
	}
	if inner, ok := strings.CutPrefix(text, "<KMIP>"); ok {
		text = strings.TrimSuffix(inner, "</KMIP>")
	}
	raw, err := e.filled(text, values)
	if err != nil {
		return nil, err
	}
	root, err := e.texts().DecodeXML(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the message cannot be read: %s", err.Error())
	}
	// As it would have come: the same bounds, and no shared structure.
	root, err = ttlv.Decode(root.Encode())
	if err != nil {
		return nil, errs.New(errs.Invalid, "the message cannot be read: %s", err.Error())
	}
	m, f := parseMessage(e.ops, root)
	if f != nil {
		return nil, errs.New(errs.Invalid, "%s", f.text)
	}
	if asked == "" {
		return m, nil
	}
	have := make([]string, len(m.items))
	for i := range m.items {
		have[i] = strings.ToLower(ttlv.EnumName(ttlv.TagOperation, m.items[i].code))
	}
	want := strings.ReplaceAll(strings.ReplaceAll(asked, "locate_by_name", "locate"), "getattribute/", "getattributes/")
	if strings.HasSuffix(want, "getattribute") {
		want += "s"
	}
	if strings.ReplaceAll(want, "_", "") != strings.Join(have, "/") {
		return nil, errs.New(errs.Invalid, "the message has the operations %s, the path says %s", strings.Join(have, "/"), asked)
	}
	return m, nil
}
