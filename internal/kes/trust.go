package kes

import (
	"crypto/tls"
	"crypto/x509"
	"runtime"
	"sync"
	"weak"

	"arca/internal/errs"
)

// errUntrusted refuses a connection that began under other rules.
var errUntrusted = errs.New(errs.Denied, "the client's certificate is not trusted")

// A trust knows the connections whose client's certificate was found good under one
// State. A handshake verifies a certificate once, by the rules of its time; a
// connection may outlive them. The zero value is ready.
type trust struct {
	mu    sync.Mutex
	conns map[weak.Pointer[tls.ConnectionState]]struct{} // guarded by mu: of those that are open
}

// check verifies the certificate of a connection, the first time that it is asked.
func (t *trust) check(conn *tls.ConnectionState, verify func([]*x509.Certificate) error) error {
	at := weak.Make(conn)
	t.mu.Lock()
	_, good := t.conns[at]
	t.mu.Unlock()
	if good {
		return nil
	}
	if verify(conn.PeerCertificates) != nil { // whoever is not trusted is not told why
		return errUntrusted
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, good := t.conns[at]; good {
		return nil
	}
	if t.conns == nil {
		t.conns = map[weak.Pointer[tls.ConnectionState]]struct{}{}
	}
	t.conns[at] = struct{}{}
	runtime.AddCleanup(conn, t.forget, at) // with the connection
	return nil
}

func (t *trust) forget(conn weak.Pointer[tls.ConnectionState]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
}
