package cli

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

func isFormat(s string) bool {
	switch s {
	case "table", "json", "yaml", "yml", "raw", "pretty":
		return true
	}
	return false
}

func (c *call) isTable() bool { return c.globals.format == "table" }

// show prints v as JSON or YAML, or the text that asTable makes. A nil asTable
// means that there is no table form.
func (c *call) show(v any, asTable func() string) error {
	switch c.globals.format {
	case "json":
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return usagef("Could not marshal output: %w", err)
		}
		c.printf("%s\n", b)
		return nil
	case "yaml", "yml":
		b, err := marshalYAML(v)
		if err != nil {
			return usagef("Could not marshal output: %w", err)
		}
		c.printf("%s\n", strings.TrimSpace(string(b)))
		return nil
	case "table":
		if asTable != nil {
			c.printf("%s", asTable())
			return nil
		}
	case "raw":
		if s, ok := v.(string); ok {
			c.printf("%s\n", s)
			return nil
		}
	}
	return usagef("Could not parse output: cannot use the %s formatter for this type", c.globals.format)
}

// printSecret prints an answer: the field asked for, or all of it. Warnings go
// to standard error when a person reads.
func (c *call) printSecret(s *api.Secret) error {
	if c.globals.field != "" {
		return c.printField(s, c.globals.field)
	}
	if c.isTable() {
		c.printWarnings(s.Warnings)
	}
	return c.show(s, func() string { return secretTable(s) })
}

func (c *call) printWarnings(warnings []string) {
	if len(warnings) == 0 {
		return
	}
	c.errorf("WARNING! The following warnings were returned from Vault:\n")
	for _, w := range warnings {
		c.errorf("\n%s", wrap("* "+w, "  ", lineWidth-4))
	}
	c.errorf("")
}

// printField prints one value of an answer, bare. On a terminal a line end
// follows; into a pipe or file nothing does.
func (c *call) printField(s *api.Secret, name string) error {
	v := field(s, name)
	if v == nil {
		return usagef("Field %q not present in secret", name)
	}
	if c.globals.format != "table" && c.globals.format != "raw" {
		return c.show(v, nil)
	}
	c.printf("%v", v)
	if isTerminal(c.Stdio.Out) {
		c.printf("\n")
	}
	return nil
}

// field finds a value by the names that tables show and by the data's own.
func field(s *api.Secret, name string) any {
	if a := s.Auth; a != nil {
		switch name {
		case "token":
			return a.ClientToken
		case "token_accessor":
			return a.Accessor
		case "token_duration":
			return a.LeaseDuration
		case "token_renewable":
			return a.Renewable
		case "token_policies":
			return a.TokenPolicies
		case "identity_policies":
			return a.IdentityPolicies
		case "policies":
			return a.Policies
		}
		if key, ok := strings.CutPrefix(name, "token_meta_"); ok {
			if v, ok := a.Metadata[key]; ok {
				return v
			}
		}
	}
	if w := s.WrapInfo; w != nil {
		switch name {
		case "wrapping_token":
			return w.Token
		case "wrapping_accessor":
			return w.Accessor
		case "wrapping_token_ttl":
			return w.TTL
		case "wrapping_token_creation_time":
			return w.CreationTime.Format(time.RFC3339Nano)
		case "wrapping_token_creation_path":
			return w.CreationPath
		case "wrapped_accessor":
			return w.WrappedAccessor
		}
	}
	if v, ok := s.Data[name]; ok {
		return v
	}
	switch name {
	case "lease_id":
		return nonEmpty(s.LeaseID)
	case "lease_duration", "refresh_interval":
		return s.LeaseDuration
	case "lease_renewable":
		return s.Renewable
	case "request_id":
		return nonEmpty(s.RequestID)
	}
	return nil
}

func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// secretTable lays out an answer: its lease, its token, its wrapping, its data.
func secretTable(s *api.Secret) string {
	var rows [][]string
	row := func(key, value string) { rows = append(rows, []string{key, value}) }
	if s.LeaseDuration > 0 {
		if s.LeaseID != "" {
			row("lease_id", s.LeaseID)
			row("lease_duration", humanSeconds(s.LeaseDuration))
			row("lease_renewable", fmt.Sprint(s.Renewable))
		} else {
			row("refresh_interval", humanSeconds(s.LeaseDuration))
		}
	}
	if s.Auth != nil {
		rows = append(rows, authRows(s.Auth)...)
	}
	if w := s.WrapInfo; w != nil {
		row("wrapping_token:", w.Token)
		row("wrapping_accessor:", w.Accessor)
		row("wrapping_token_ttl:", humanSeconds(w.TTL))
		row("wrapping_token_creation_time:", w.CreationTime.String())
		row("wrapping_token_creation_path:", w.CreationPath)
		if w.WrappedAccessor != "" {
			row("wrapped_accessor:", w.WrappedAccessor)
		}
	}
	rows = append(rows, dataRows(s.Data)...)
	if len(rows) == 0 {
		return ""
	}
	return table([]string{"Key", "Value"}, rows)
}

func authRows(a *api.SecretAuth) [][]string {
	if a.MFARequirement != nil {
		return mfaRows(a.MFARequirement)
	}
	life := "∞"
	if a.LeaseDuration != 0 {
		life = humanSeconds(a.LeaseDuration)
	}
	rows := [][]string{
		{"token", a.ClientToken},
		{"token_accessor", a.Accessor},
		{"token_duration", life},
		{"token_renewable", fmt.Sprint(a.Renewable)},
		{"token_policies", fmt.Sprintf("%q", a.TokenPolicies)},
		{"identity_policies", fmt.Sprintf("%q", a.IdentityPolicies)},
		{"policies", fmt.Sprintf("%q", a.Policies)},
	}
	keys := make([]string, 0, len(a.Metadata))
	for k := range a.Metadata {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		rows = append(rows, []string{"token_meta_" + k, a.Metadata[k]})
	}
	return rows
}

func mfaRows(r *api.MFARequirement) [][]string {
	rows := [][]string{{"mfa_request_id", r.MFARequestID}}
	names := make([]string, 0, len(r.MFAConstraints))
	for name := range r.MFAConstraints {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, m := range r.MFAConstraints[name].Any {
			prefix := "mfa_constraint_" + name + "_" + m.Type
			rows = append(rows, []string{prefix + "_id", m.ID}, []string{prefix + "_uses_passcode", fmt.Sprint(m.UsesPasscode)})
			if m.Name != "" {
				rows = append(rows, []string{prefix + "_name", m.Name})
			}
		}
	}
	return rows
}

// dataRows are a map's members in order; numbers that are durations by their
// name are shown as such.
func dataRows(data map[string]any) [][]string {
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	rows := make([][]string, 0, len(keys))
	for _, k := range keys {
		rows = append(rows, []string{k, cell(k, data[k])})
	}
	return rows
}

func cell(key string, v any) string {
	if n, ok := v.(json.Number); ok && isDurationName(key) {
		if seconds, err := n.Int64(); err == nil {
			return human(time.Duration(seconds) * time.Second)
		}
	}
	return fmt.Sprint(v)
}

func mapTable(data map[string]any) string {
	return table([]string{"Key", "Value"}, dataRows(data))
}

func isDurationName(k string) bool {
	for _, word := range []string{"ttl", "period", "duration", "lease_max", "ttl_max"} {
		if k == word || strings.HasSuffix(k, "_"+word) {
			return true
		}
	}
	return false
}

func humanSeconds(n int) string { return human(time.Duration(n) * time.Second) }

// human shows a duration without parts that are zero: "768h", "1m30s".
func human(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	s := d.Round(time.Second).String()
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}

// printList prints the answer of a LIST request: the keys, in a table with the
// columns of key_info when -detailed asks for them.
func (c *call) printList(s *api.Secret, path string) error {
	keys, ok := listKeys(s)
	if !ok {
		if !c.isTable() {
			if err := c.show(map[string]any{}, nil); err != nil {
				return err
			}
			return exit(exitFailure)
		}
		if s != nil {
			c.printWarnings(s.Warnings)
		}
		return failf("No value found at %s", path)
	}
	if c.globals.field != "" {
		return c.printField(s, c.globals.field)
	}
	if c.isTable() {
		c.printWarnings(s.Warnings)
	}
	if c.globals.detailed && s.Data["key_info"] != nil {
		if !c.isTable() {
			return c.show(s.Data, nil)
		}
		c.printf("%s", detailedList(s, keys))
		return nil
	}
	return c.show(keys, func() string {
		rows := make([][]string, 0, len(keys))
		for _, k := range keys {
			rows = append(rows, []string{fmt.Sprint(k)})
		}
		return table([]string{"Keys"}, rows)
	})
}

func listKeys(s *api.Secret) ([]any, bool) {
	if s == nil || s.Data == nil {
		return nil, false
	}
	keys, ok := s.Data["keys"].([]any)
	return keys, ok
}

func detailedList(s *api.Secret, keys []any) string {
	info, _ := s.Data["key_info"].(map[string]any)
	names := map[string]bool{}
	for _, v := range info {
		if m, ok := v.(map[string]any); ok {
			for k := range m {
				names[k] = true
			}
		}
	}
	columns := make([]string, 0, len(names))
	for k := range names {
		columns = append(columns, k)
	}
	sort.Strings(columns)
	rows := make([][]string, 0, len(keys))
	for _, k := range keys {
		m, _ := info[fmt.Sprint(k)].(map[string]any)
		row := []string{printable(fmt.Sprint(k))}
		for _, col := range columns {
			v := m[col]
			if v == nil {
				v = "n/a"
			}
			row = append(row, printable(fmt.Sprint(v)))
		}
		rows = append(rows, row)
	}
	return table(append([]string{"Keys"}, columns...), rows)
}
