package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"arca/internal/arcatest"
)

// Debian's python3-pykmip, a client that others wrote, goes through what one does
// with a KMIP server, in each version of the protocol: see
// testdata/pykmip_client.py. S2-16, S2-20, S2-26: what databases do is among it.
func TestPyKMIP(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import kmip").CombinedOutput(); err != nil {
		arcatest.Absent(t, "python3-pykmip is not installed: run tools/packages.sh as root (%v %s)", err, out)
	}
	dir := t.TempDir()
	n := newNode(t, dir, fileStorage)
	port := arcatest.FreePort(t)
	n.must("POST", "sys/mounts/kmip", map[string]any{"type": "kmip"})
	n.must("POST", "kmip/config", map[string]any{"listen_addrs": fmt.Sprint("127.0.0.1:", port), "tls_ca_key_type": "rsa", "tls_ca_key_bits": 2048})
	n.must("POST", "kmip/scope/s", nil)
	write := func(name string, text any) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", n.must("GET", "kmip/ca", nil)["data"].(map[string]any)["ca_pem"])
	for role, kind := range map[string]string{"plain": "", "pykmip": "pykmip"} {
		n.must("POST", "kmip/scope/s/role/"+role, map[string]any{"operation_all": true, "tls_client_key_type": "rsa", "tls_client_key_bits": 2048, "client": kind})
		cred := n.must("POST", "kmip/scope/s/role/"+role+"/credential/generate", map[string]any{"format": "pem"})["data"].(map[string]any)
		write(role+"-cert.pem", cred["certificate"])
		write(role+"-key.pem", cred["private_key"])
		write(role+".conf", fmt.Sprintf("[client]\nhost=127.0.0.1\nport=%d\ncertfile=%[2]s/%[3]s-cert.pem\nkeyfile=%[2]s/%[3]s-key.pem\nca_certs=%[2]s/ca.pem\n"+
			"cert_reqs=CERT_REQUIRED\nssl_version=PROTOCOL_TLSv1_2\ndo_handshake_on_connect=True\nsuppress_ragged_eofs=True\nusername=None\npassword=None\n", port, dir, role))
	}
	run := func(script, role, version string, more ...string) {
		t.Helper()
		client := exec.Command(python, append([]string{"testdata/" + script, filepath.Join(dir, role+".conf"), version}, more...)...)
		client.Env = environment(dir, "PYTHONDONTWRITEBYTECODE=1")
		if out, err := client.CombinedOutput(); err != nil {
			t.Errorf("%s %s %s: %v\n%s", script, role, version, err, out)
		}
	}
	for _, version := range []string{"KMIP_1_0", "KMIP_1_1", "KMIP_1_2", "KMIP_1_3", "KMIP_1_4"} {
		run("pykmip_client.py", "plain", version)
		run("pykmip_quirks.py", "plain", version, "fails")
		run("pykmip_quirks.py", "pykmip", version, "reads")
	}
}
