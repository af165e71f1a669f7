package kmip_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"arca/internal/ttlv"
)

// served opens a connection with what a balancer sends first, and reports whether a client behind it is served.
func served(t *testing.T, address string, header []byte, cfg *tls.Config) bool {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if _, err := raw.Write(header); err != nil {
		return false
	}
	conn := tls.Client(raw, cfg)
	if conn.Handshake() != nil {
		return false
	}
	_, err = (&client{t, conn, [2]int32{1, 4}}).send((&client{ver: [2]int32{1, 4}}).message(nil, op(ttlv.OperationDiscoverVersions)))
	return err == nil
}

// v2Header is one of the PROXY protocol's second version, from an address of IPv4.
func v2Header(t *testing.T, from string) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP(from), Port: 4000}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5696})
	var out bytes.Buffer
	if _, err := h.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A balancer says whose connection it is, when it may: bounds, audit and statistics are of that address.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	cfg.ServerName = "localhost"
	file := t.TempDir() + "/audit.log"
	s.Must("PUT", "sys/audit/file", s.Root, object{"type": "file", "options": object{"file_path": file}})
	if served(t, address, v2Header(t, "192.0.2.7"), cfg) {
		t.Error("whoever connects says where it comes from")
	}
	if !served(t, address, nil, cfg) {
		t.Error("without a header")
	}

	s.Must("POST", "kmip/config", s.Root, object{"proxy_protocol_authorized_addrs": []string{"127.0.0.0/8", "::1"}})
	if got := fmt.Sprint(s.Must("GET", "kmip/config", s.Root, nil)); !strings.Contains(got, "proxy_protocol_authorized_addrs:[127.0.0.0/8 ::1]") {
		t.Error(got)
	}
	for name, header := range map[string][]byte{
		"version 1":          []byte("PROXY TCP4 192.0.2.1 10.0.0.1 4000 5696\r\n"),
		"version 1, of IPv6": []byte("PROXY TCP6 2001:db8::1 2001:db8::2 4000 5696\r\n"),
		"version 1, unknown": []byte("PROXY UNKNOWN\r\n"),
		"version 2":          v2Header(t, "192.0.2.2"),
		"version 2, of none": {0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x20, 0, 0, 0},
		"no header, a probe": nil,
	} {
		if !served(t, address, header, cfg) {
			t.Errorf("%s: not served", name)
		}
	}
	await(t, "the records", func() bool { return strings.Contains(readFile(t, file), `"remote_address":"192.0.2.2"`) })
	for _, want := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1"} {
		if !strings.Contains(readFile(t, file), `"remote_address":"`+want+`"`) {
			t.Errorf("no request from %s in the audit log", want)
		}
	}
	s.Must("POST", "kmip/config", s.Root, object{"max_connections_per_address": 2})
	for range 2 {
		if !served(t, address, v2Header(t, "192.0.2.3"), cfg) {
			t.Error("a client behind the balancer")
		}
	}
	if served(t, address, v2Header(t, "192.0.2.3"), cfg) {
		t.Error("a third connection of one client behind the balancer")
	}
	if !served(t, address, v2Header(t, "192.0.2.4"), cfg) {
		t.Error("another client behind the balancer")
	}
	for _, bad := range [][]byte{
		[]byte("PROXY TCP4 nonsense\r\n"), []byte("PROXY " + strings.Repeat("x", 200)), []byte("PROXY TCP4 192.0.2.1 10.0.0.1 99999999 1\r\n"),
		v2Header(t, "192.0.2.5")[:20],
	} {
		if served(t, address, bad, cfg) {
			t.Errorf("served behind %q", bad)
		}
	}
	if !served(t, address, v2Header(t, "192.0.2.6"), cfg) {
		t.Error("the server goes on")
	}

	for _, list := range [][]string{{"balancer"}, {"10.0.0.0/33"}, {""}} {
		if code, _ := s.Do("POST", "kmip/config", s.Root, object{"proxy_protocol_authorized_addrs": list}); code != 400 {
			t.Errorf("%q: %d", list, code)
		}
	}
	s.Must("POST", "kmip/config", s.Root, object{"proxy_protocol_authorized_addrs": nil})
	if served(t, address, v2Header(t, "192.0.2.8"), cfg) {
		t.Error("a balancer that is none any more")
	}
}
