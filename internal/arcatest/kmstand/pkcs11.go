//go:build pkcs11 && cgo

package kmstand

// PKCS11 says that the program is built for PKCS#11.
const PKCS11 = true
