package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

func operatorUsageCommand() command {
	return command{
		name: "operator usage", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Count the clients in a time",
		about: `Shows how many clients there were: entities, and tokens without one that differ
in their policies.

    $ vault operator usage
    $ vault operator usage -start-time=2026-01 -end-time=2026-06`,
		setup: func(f *flagSet) runFunc {
			start := f.String("start-time", "", "time", "Begin of the time: 2026-01, 2026-01-31 or RFC 3339.")
			end := f.String("end-time", "", "time", "End of the time.")
			return func(c *call) error { return runOperatorUsage(c, *start, *end) }
		},
	}
}

// counts are numbers of clients, as the server shows them.
type counts struct {
	Entities    int `json:"entity_clients"`
	NonEntities int `json:"non_entity_clients"`
	Syncs       int `json:"secret_syncs"`
	ACME        int `json:"acme_clients"`
	Clients     int `json:"clients"`
}

func (n counts) row(name string) []string {
	return []string{name, strconv.Itoa(n.Entities), strconv.Itoa(n.NonEntities), strconv.Itoa(n.Syncs), strconv.Itoa(n.ACME), strconv.Itoa(n.Clients)}
}

func runOperatorUsage(c *call, start, end string) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	query := map[string][]string{}
	for name, text := range map[string]string{"start_time": start, "end_time": end} {
		if text == "" {
			continue
		}
		t, err := parseDay(text)
		if err != nil {
			return usagef("Error parsing %s: %q is no month (2026-01), day (2026-01-31) or time of RFC 3339", name, text)
		}
		query[name] = []string{t.Format(time.RFC3339)}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Logical().ReadWithDataWithContext(c.ctx, "sys/internal/counters/activity", query)
	if err != nil {
		return failf("Error retrieving client counts: %w", err)
	}
	if s == nil || s.Data == nil {
		if c.isTable() {
			c.printf("No data is available for the given time range.\n")
		}
		return exit(exitFailure)
	}
	return c.show(s.Data, func() string { return usageTable(s) })
}

func usageTable(s *api.Secret) string {
	var in struct {
		Start string `json:"start_time"`
		End   string `json:"end_time"`
		Total counts `json:"total"`
		By    []struct {
			Path   string `json:"namespace_path"`
			Counts counts `json:"counts"`
		} `json:"by_namespace"`
	}
	raw, err := json.Marshal(s.Data)
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	if err != nil {
		return fmt.Sprintf("the server's answer cannot be understood: %v\n", err)
	}
	var rows [][]string
	for _, n := range in.By {
		name := n.Path
		if name == "" {
			name = "[root]"
		}
		rows = append(rows, n.Counts.row(name))
	}
	rows = append(rows, in.Total.row("Total"))
	return fmt.Sprintf("Period start: %s\nPeriod end: %s\n\n", in.Start, in.End) +
		table([]string{"Namespace path", "Entity Clients", "Non-Entity clients", "Secret syncs", "ACME clients", "Active clients"}, rows)
}

func parseDay(text string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01"} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}

func topCommand() command {
	return command{
		name: "top", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show who makes the most tokens and leases",
		about: `Shows who makes the most tokens and leases just now, by mount, role and client,
and goes on until it is interrupted; once when the output is no terminal, or with
another format than table. Numbers are since the node became active. Vault has no
such command.

    $ arca top
    $ arca top -kind=lease -limit=10 -once`,
		setup: func(f *flagSet) runFunc {
			kind := f.String("kind", "", "kind", "Only what is made: token or lease.")
			limit := f.Int("limit", 20, "How many lines to show.")
			every := f.Duration("interval", "How often to look; 2s by default.")
			once := f.Bool("once", false, "Show once and end.")
			return func(c *call) error {
				if !f.given("interval") {
					*every = 2 * time.Second
				}
				if *every < 100*time.Millisecond {
					return usagef("-interval must be at least 100ms")
				}
				return runTop(c, *kind, *limit, *every, *once)
			}
		},
	}
}

// clearScreen is what a terminal of ECMA-48 takes for: to the top, and clear.
const clearScreen = "\x1b[H\x1b[2J"

func runTop(c *call, kind string, limit int, every time.Duration, once bool) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	if !c.isTable() || !isTerminal(c.Stdio.Out) {
		once = true
	}
	query := map[string][]string{"limit": {strconv.Itoa(limit)}, "kind": {kind}}
	client, err := c.client()
	if err != nil {
		return err
	}
	for {
		s, err := client.Logical().ReadWithDataWithContext(c.ctx, "sys/internal/counters/makers", query)
		if err != nil {
			return failf("Error asking who makes tokens and leases: %w", err)
		}
		if s == nil {
			return failf("The server does not tell who makes tokens and leases")
		}
		if once {
			return c.show(s.Data, func() string { return topTable(s) })
		}
		c.printf("%s%s", clearScreen, topTable(s))
		t := time.NewTimer(every)
		select {
		case <-c.ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func topTable(s *api.Secret) string {
	list, _ := s.Data["makers"].([]any)
	if len(list) == 0 {
		return fmt.Sprintf("No tokens or leases were made since %v.\n", s.Data["since"])
	}
	var rows [][]string
	for _, x := range list {
		m, _ := x.(map[string]any)
		text := func(name string) string {
			if m[name] == nil {
				return ""
			}
			return printable(fmt.Sprint(m[name]))
		}
		total := text("total")
		if e := text("total_error"); e != "0" {
			total = "≤" + total
		}
		rows = append(rows, []string{text("per_minute"), total, text("kind"), "/" + text("namespace"), text("mount"), text("role"), text("client")})
	}
	return table([]string{"Per minute", "Total", "Kind", "Namespace", "Mount", "Role", "Client"}, rows)
}
