package seals

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
	"arca/internal/ttlv"
)

// kmip encrypts with an AES key of a KMIP server (1.2 to 1.4), by AES-GCM, or with a pair of RSA keys, by OAEP. Seals are
// asked every few minutes: each question has a connection of its own.
type kmip struct {
	endpoint string // host and port
	key      string // unique identifier
	alg      string // one of kmipOAEP; "" is AES-GCM
	tls      *tls.Config
	timeout  time.Duration
}

// Bounds and defaults of a KMIP server's answers.
const (
	kmipPort    = "5696"
	kmipTimeout = 10 * time.Second
	maxKMIP     = 64 << 10 // bytes of an answer
)

func newKMIP(o *options) (*kmip, error) {
	k := &kmip{
		endpoint: o.first("endpoint", "VAULT_KMIP_ENDPOINT"), key: o.first("kms_key_id", "VAULT_KMIP_KMS_KEY_ID"), timeout: kmipTimeout,
	}
	cert, private := o.first("client_cert", "VAULT_KMIP_CLIENT_CERT"), o.first("client_key", "VAULT_KMIP_CLIENT_KEY")
	switch {
	case k.endpoint == "":
		return nil, missing("endpoint")
	case k.key == "":
		return nil, missing("kms_key_id")
	case cert == "":
		return nil, missing("client_cert")
	case private == "":
		return nil, missing("client_key")
	}
	host, _, err := net.SplitHostPort(k.endpoint)
	if err != nil { // no port
		host = strings.Trim(k.endpoint, "[]")
		k.endpoint = net.JoinHostPort(host, kmipPort)
	}
	if host == "" {
		return nil, errs.New(errs.Invalid, "endpoint names no host: it is host:port, as in kmip.example.com:5696")
	}
	if alg := o.first("encrypt_alg", "VAULT_KMIP_ENCRYPT_ALG"); alg != "AES_GCM" {
		k.alg = alg
	}
	if _, ok := kmipOAEP[k.alg]; !ok && k.alg != "" {
		return nil, errs.New(errs.Invalid, "encrypt_alg %q is not known: there are AES_GCM, and RSA_OAEP_SHA256, RSA_OAEP_SHA384 and RSA_OAEP_SHA512 for a key of RSA", k.alg)
	}
	if text := o.first("timeout", "VAULT_KMIP_TIMEOUT"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > 300 {
			return nil, errs.New(errs.Invalid, "timeout %q is no number of seconds from 1 to 300", text)
		}
		k.timeout = time.Duration(seconds) * time.Second
	}
	web, err := rest.NewHTTP(rest.TLS{CA: o.first("ca_cert", "VAULT_KMIP_CA_CERT"), Cert: cert, Key: private})
	if err != nil {
		return nil, err
	}
	tr, ok := web.Transport.(*http.Transport)
	if !ok {
		return nil, errs.New(errs.Internal, "the client has no TLS settings")
	}
	k.tls = tr.TLSClientConfig
	if k.tls.ServerName = o.first("server_name", "VAULT_KMIP_SERVER_NAME"); k.tls.ServerName == "" {
		k.tls.ServerName = host
	}
	k.tls.CipherSuites, err = suites(o.first("tls12_ciphers", "VAULT_KMIP_TLS12_CIPHERS"))
	return k, err
}

// suites are the cipher suites of TLS 1.2 by their names; nil is those of Go.
func suites(list string) ([]uint16, error) {
	var out []uint16
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		at := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if at < 0 {
			return nil, errs.New(errs.Invalid, "tls12_ciphers: %q is none of those that are safe to use", name)
		}
		out = append(out, tls.CipherSuites()[at].ID)
	}
	return out, nil
}

// kmipBlob is what Encrypt gives.
type kmipBlob struct {
	Key   string `json:"key"`             // that decrypts
	Named string `json:"named,omitempty"` // that was configured, where it may be the other of a pair
	Alg   string `json:"alg,omitempty"`   // as kmip's
	Nonce []byte `json:"nonce,omitempty"`
	Data  []byte `json:"data"`
	Tag   []byte `json:"tag,omitempty"` // where the server tells it apart (from 1.4 on)
}

const kmipNonce = 12 // bytes

var errKMIPAnswer = errs.New(errs.Unavailable, "the KMIP server's answer is not one to this question")

func gcmParameters() *ttlv.Node {
	return ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagBlockCipherMode, ttlv.BlockCipherModeGCM),
		ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagTagLength, 16))
}

// Encrypt implements seal.Sealer. The server makes the nonce, as some insist on.
func (k *kmip) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	if k.alg != "" {
		b, err := k.encryptRSA(ctx, plain)
		if err != nil {
			return nil, err
		}
		return json.Marshal(b)
	}
	params := gcmParameters().Add(ttlv.Bool(ttlv.TagRandomIV, true), ttlv.Int(ttlv.TagIVLength, kmipNonce))
	out, err := k.ask(ctx, ttlv.OperationEncrypt, ttlv.Text(ttlv.TagUniqueIdentifier, k.key), params, ttlv.Bytes(ttlv.TagData, plain))
	if err != nil {
		return nil, err
	}
	data, nonce := out.Get(ttlv.TagData), out.Get(ttlv.TagIVCounterNonce)
	if data == nil || nonce == nil || len(nonce.Bytes) == 0 {
		return nil, errKMIPAnswer
	}
	b := kmipBlob{Key: k.key, Nonce: nonce.Bytes, Data: data.Bytes}
	if tag := out.Get(ttlv.TagAuthenticatedEncryptionTag); tag != nil {
		b.Tag = tag.Bytes
	}
	return json.Marshal(b)
}

// Decrypt implements seal.Sealer.
func (k *kmip) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	var b kmipBlob
	if json.Unmarshal(sealed, &b) != nil || b.Key == "" {
		return nil, errs.New(errs.Invalid, "this was not encrypted by a KMIP server")
	}
	var payload []*ttlv.Node
	if _, ok := kmipOAEP[b.Alg]; ok {
		payload = []*ttlv.Node{ttlv.Text(ttlv.TagUniqueIdentifier, b.Key), oaepParameters(b.Alg), ttlv.Bytes(ttlv.TagData, b.Data)}
	} else {
		payload = []*ttlv.Node{
			ttlv.Text(ttlv.TagUniqueIdentifier, b.Key), gcmParameters(), ttlv.Bytes(ttlv.TagData, b.Data), ttlv.Bytes(ttlv.TagIVCounterNonce, b.Nonce),
		}
	}
	if len(b.Tag) > 0 {
		payload = append(payload, ttlv.Bytes(ttlv.TagAuthenticatedEncryptionTag, b.Tag))
	}
	out, err := k.ask(ctx, ttlv.OperationDecrypt, payload...)
	if err != nil {
		return nil, err
	}
	data := out.Get(ttlv.TagData)
	if data == nil || data.Type != ttlv.ByteString {
		return nil, errKMIPAnswer
	}
	return data.Bytes, nil
}

// Current implements seal.Renewer: another key is configured now.
func (k *kmip) Current(sealed []byte) bool {
	var b kmipBlob
	return json.Unmarshal(sealed, &b) == nil && b.Alg == k.alg && cmp.Or(b.Named, b.Key) == k.key
}

// ask has the server carry one operation out, in the newest version of the protocol
// that it takes, and returns the answer's payload.
func (k *kmip) ask(ctx context.Context, op uint32, payload ...*ttlv.Node) (*ttlv.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	var err error
	for minor := int32(4); minor >= 2; minor-- {
		var out *ttlv.Node
		var again bool
		if out, again, err = k.askIn(ctx, minor, op, payload); err == nil || !again {
			return out, err
		}
	}
	return nil, err
}

// askIn is ask in one version; again says that the server may take an older one.
func (k *kmip) askIn(ctx context.Context, minor int32, op uint32, payload []*ttlv.Node) (out *ttlv.Node, again bool, err error) {
	request := ttlv.Struct(ttlv.TagRequestMessage,
		ttlv.Struct(ttlv.TagRequestHeader,
			ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, 1), ttlv.Int(ttlv.TagProtocolVersionMinor, minor)),
			ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, op), ttlv.Struct(ttlv.TagRequestPayload, payload...)))
	raw, err := k.exchange(ctx, request.Encode())
	if err != nil {
		return nil, false, errs.New(errs.Unavailable, "the KMIP server at %s: %w", k.endpoint, err)
	}
	answer, err := ttlv.Decode(raw)
	if err != nil {
		return nil, false, errs.New(errs.Unavailable, "the KMIP server's answer: %w", err)
	}
	items := answer.All(ttlv.TagBatchItem)
	if answer.Tag != ttlv.TagResponseMessage || len(items) != 1 {
		return nil, false, errKMIPAnswer
	}
	status := items[0].Get(ttlv.TagResultStatus)
	if status == nil {
		return nil, false, errKMIPAnswer
	}
	if status.Int != int64(ttlv.ResultStatusSuccess) {
		code := uint32(0)
		if r := items[0].Get(ttlv.TagResultReason); r != nil {
			code = uint32(r.Int)
		}
		// Servers tell of a version that they do not speak in one of these ways.
		again = code == ttlv.ResultReasonInvalidMessage || code == ttlv.ResultReasonUnsupportedProtocolVersion
		return nil, again, errs.New(errs.Failed, "the KMIP server refuses: %s: %.200q",
			ttlv.EnumName(ttlv.TagResultReason, code), items[0].Get(ttlv.TagResultMessage).Text())
	}
	if out = items[0].Get(ttlv.TagResponsePayload); out == nil {
		return nil, false, errKMIPAnswer
	}
	return out, false, nil
}

// exchange sends a message and reads the answer.
func (k *kmip) exchange(ctx context.Context, message []byte) ([]byte, error) {
	conn, err := (&tls.Dialer{Config: k.tls}).DialContext(ctx, "tcp", k.endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	var header [ttlv.HeaderBytes]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, err
	}
	n, err := ttlv.Length(header[:])
	if err != nil {
		return nil, err
	}
	if n > maxKMIP {
		return nil, errs.New(errs.Unavailable, "its answer has %d bytes", n)
	}
	out := append(make([]byte, 0, n), header[:]...)[:n]
	_, err = io.ReadFull(conn, out[len(header):])
	return out, err
}
