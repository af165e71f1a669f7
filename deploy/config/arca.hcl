# An example for one node; it stands at /etc/arca/arca.hcl. The keys are those of Vault's server.

ui       = false
api_addr = "https://arca.example.org:8200"

storage "file" {
  path = "/var/lib/arca"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/arca/tls/arca.crt"
  tls_key_file  = "/etc/arca/tls/arca.key"
}
