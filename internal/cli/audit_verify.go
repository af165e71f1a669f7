package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"arca/internal/chain"
)

func auditVerifyCommand() command {
	return command{
		name: "audit verify", usage: "[options] FILE…", shared: withHTTP | withFormat,
		summary: "Check that an audit log is as it was written",
		about: `Reads the records of an audit device that was enabled with hash_chain=true, file
by file in the order in which they were written ("-" is the standard input), and
tells which are changed, missing, added or moved. Exits with 2 when there are any.

Without -device nothing is asked of the server; who can write the log could then
have made all of it. With -device the server, which alone has the key, confirms the
last record of each chain, and so all before it, and tells how far the log should
go. Vault has
no such command.

    $ arca audit enable file file_path=/var/log/arca/audit.log hash_chain=true
    $ arca audit verify -device=file /var/log/arca/audit.log.1 /var/log/arca/audit.log`,
		setup: func(f *flagSet) runFunc {
			device := f.String("device", "", "path", "Audit device whose log it is.")
			return func(c *call) error { return runAuditVerify(c, *device) }
		},
	}
}

func runAuditVerify(c *call, device string) error {
	if err := c.between(1, -1); err != nil {
		return err
	}
	v := chain.NewVerifier()
	var ends map[string]chain.Head
	path := "sys/audit-chain/" + cleanPath(device)
	if device != "" {
		s, err := c.request(http.MethodGet, path, nil)
		if err != nil {
			return failf("Error asking for the chain of %s: %w", device, err)
		}
		if s == nil {
			return failf("The server knows no chain of %s", device)
		}
		if ends, err = endsOf(s.Data); err != nil {
			return failf("The server's answer about the chain of %s cannot be understood: %w", device, err)
		}
		for _, end := range ends {
			v.Expect(end)
		}
	}
	for _, name := range c.args {
		if err := verifyFile(c, v, name); err != nil {
			return failf("Error reading %s: %w", name, err)
		}
	}
	out := verified{Records: v.Lines, Faults: v.Faults}
	for _, f := range v.Findings {
		out.Findings = append(out.Findings, finding(f))
	}
	fault := func(text string) {
		out.Faults++
		out.Findings = append(out.Findings, finding{Fault: true, Text: text})
	}
	if v.Lines == 0 {
		fault("there are no records")
	}
	if device != "" && v.Lines > 0 {
		out.Confirmed = v.Last.Seq > 0
		for _, r := range v.Ends() {
			valid, err := confirmed(c, path, r)
			if err != nil {
				return failf("Error asking the server about record %d of chain %s: %w", r.Seq, r.ID, err)
			}
			if !valid {
				out.Confirmed = false
				fault(fmt.Sprintf("record %d of chain %s was not written by this device: all of that chain may be forged", r.Seq, r.ID))
			}
		}
		// The files are of one node, or of several: the ends of those chains count that
		// are in them. Files of none of the server's chains are not its log.
		there := 0
		for _, node := range slices.Sorted(maps.Keys(ends)) {
			end := ends[node]
			if !slices.ContainsFunc(v.Ends(), func(r chain.Record) bool { return r.ID == end.ID }) {
				continue
			}
			if there++; v.Missing(end) {
				fault(fmt.Sprintf("record %d of chain %s, which the server wrote last, is not in these files: the end is missing", end.Seq, end.ID))
			}
		}
		if there == 0 && len(ends) > 0 {
			fault("these files are of none of the chains that the server writes: the end is missing")
		}
	}
	if err := c.show(out, out.text); err != nil {
		return err
	}
	if out.Faults > 0 {
		return exit(exitFailure)
	}
	return nil
}

func verifyFile(c *call, v *chain.Verifier, name string) error {
	if name == "-" {
		return v.Read("standard input", c.Stdio.In)
	}
	f, err := os.Open(name) //nolint:gosec // G304: the user names it
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	return v.Read(name, in)
}

// endsOf reads the ends of the chains that the server writes, by the nodes.
func endsOf(data map[string]any) (map[string]chain.Head, error) {
	nodes, _ := data["nodes"].(map[string]any)
	out := make(map[string]chain.Head, len(nodes))
	for node, v := range nodes {
		fields, _ := v.(map[string]any)
		h, err := headOf(fields)
		if err != nil {
			return nil, err
		}
		out[node] = h
	}
	return out, nil
}

// headOf reads the end of a chain from the server's answer.
func headOf(data map[string]any) (h chain.Head, err error) {
	h.ID = fmt.Sprint(data["id"])
	if _, err := fmt.Sscan(fmt.Sprint(data["seq"]), &h.Seq); err != nil {
		return h, err
	}
	raw, err := hex.DecodeString(fmt.Sprint(data["hash"]))
	if err == nil && len(raw) != len(h.Hash) {
		err = fmt.Errorf("the hash has %d bytes", len(raw))
	}
	copy(h.Hash[:], raw)
	return h, err
}

// confirmed asks the server whether it made the record.
func confirmed(c *call, path string, r chain.Record) (bool, error) {
	s, err := c.request(http.MethodPost, path, map[string]any{
		"hash": hex.EncodeToString(r.Hash[:]), "mac": hex.EncodeToString(r.Mac[:]),
	})
	if err != nil || s == nil {
		return false, err
	}
	valid, _ := s.Data["valid"].(bool)
	return valid, nil
}

// verified is what is found, as it is shown.
type verified struct {
	Records   int       `json:"records"`
	Faults    int       `json:"faults"`
	Confirmed bool      `json:"confirmed"` // by the server
	Findings  []finding `json:"findings,omitempty"`
}

type finding struct {
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Fault bool   `json:"fault"`
	Text  string `json:"text"`
}

func (v verified) text() string {
	var b strings.Builder
	for _, f := range v.Findings {
		mark := "note: "
		if f.Fault {
			mark = "FAULT: "
		}
		b.WriteString(mark)
		if f.File != "" {
			fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
		}
		b.WriteString(f.Text + "\n")
	}
	switch {
	case v.Faults > 0:
		fmt.Fprintf(&b, "%d of %d records are not as they were written, or are missing.\n", v.Faults, v.Records)
	case v.Confirmed:
		fmt.Fprintf(&b, "Success! All %d records are as they were written; the server confirms the last.\n", v.Records)
	default:
		fmt.Fprintf(&b, "Success! All %d records are tied to one another. Only the server can tell who wrote them: -device=PATH asks it.\n", v.Records)
	}
	return b.String()
}
