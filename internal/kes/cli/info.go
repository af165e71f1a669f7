package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

const lsUsage = `Usage:
    kes ls [OPTIONS] [PREFIX]

Lists keys, or policies, or identities.

Options:
    -i, --identity           list identities
    -p, --policy             list policies
` + listingUsage

func (c *call) ls() error {
	switch {
	case c.is("identity") && c.is("policy"):
		return errors.New("--identity and --policy exclude one another")
	case c.is("identity"):
		return c.listNames("identity", "Identity")
	case c.is("policy"):
		return c.listNames("policy", "Policy")
	}
	return c.listNames("key", "Key")
}

const statusUsage = `Usage:
    kes status [OPTIONS]

Prints how the server is.

Options:
    -s, --short              print the address only
        --api                print the calls of the server's API
        --json               print JSON
        --color WHEN         auto, always or never
    -k, --insecure           do not check the server's certificate
        --server HOST        the server, instead of KES_SERVER
    -a, --api-key KEY        the API key, instead of KES_API_KEY
    -h, --help               print this text
`

func (c *call) status() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	start := time.Now()
	var raw json.RawMessage
	if err := client.do(c.ctx, http.MethodGet, "/v1/status", nil, &raw); err != nil {
		return err
	}
	took := time.Since(start)
	if c.is("json") {
		c.printf("%s\n", bytes.TrimSpace(raw))
		return nil
	}
	var out struct {
		Version     string `json:"version"`
		OS          string `json:"os"`
		Arch        string `json:"arch"`
		Uptime      int64  `json:"uptime"`
		CPUs        int    `json:"num_cpu"`
		UsedCPUs    int    `json:"num_cpu_used"`
		Heap        uint64 `json:"mem_heap_used"`
		Stack       uint64 `json:"mem_stack_used"`
		Latency     int64  `json:"keystore_latency"`
		Unreachable bool   `json:"keystore_unreachable"`
	}
	if json.Unmarshal(raw, &out) != nil {
		return errors.New("the server's answer is not what a KES server answers")
	}
	c.printf("● %s\n", strings.TrimPrefix(client.endpoints[0], "https://"))
	if !c.is("short") {
		row := func(name, value string) { c.printf("  %s%*s%s\n", c.heading(name), max(1, 11-len(name)), "", value) }
		row("Version", out.Version)
		row("Uptime", (time.Duration(out.Uptime) * time.Second).String())
		row("Latency", took.Round(time.Millisecond).String())
		row("OS", out.OS)
		row("CPUs", fmt.Sprintf("%d/%d %s", out.UsedCPUs, out.CPUs, out.Arch))
		row("Memory", "")
		row(" · Heap", bytesText(out.Heap))
		row(" · Stack", bytesText(out.Stack))
		if out.Unreachable {
			row("KeyStore", "unreachable")
		} else {
			row("KeyStore", fmt.Sprintf("%d ms", out.Latency))
		}
	}
	if c.is("api") {
		return c.printAPI(client)
	}
	return nil
}

func bytesText(n uint64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func (c *call) printAPI(client *client) error {
	var rows []struct {
		Method  string `json:"method"`
		Path    string `json:"path"`
		Timeout int64  `json:"timeout"`
	}
	if err := client.do(c.ctx, http.MethodGet, "/v1/api", nil, &rows); err != nil {
		return err
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Path < rows[j].Path })
	c.printf("\n")
	for _, r := range rows {
		limit := "Inf"
		if r.Timeout > 0 {
			limit = (time.Duration(r.Timeout) * time.Second).String()
		}
		c.printf("  %-7s %-28s %s\n", r.Method, r.Path, limit)
	}
	return nil
}

const logUsage = `Usage:
    kes log [--audit | --error] [OPTIONS]

Follows the audit log, or the error log.

Options:
        --audit              the audit log (default)
        --error              the error log
` + listingUsage

func (c *call) follow() error {
	if c.is("audit") && c.is("error") {
		return errors.New("--audit and --error exclude one another")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := "/v1/log/audit"
	if c.is("error") {
		path = "/v1/log/error"
	}
	answer, err := client.open(c.ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if c.is("json") {
			c.printf("%s\n", bytes.TrimSpace(lines.Bytes()))
			continue
		}
		c.printEvent(lines.Bytes())
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.EOF) && c.ctx.Err() == nil {
		return err
	}
	return nil
}

func (c *call) printEvent(line []byte) {
	var e struct {
		Message string    `json:"message"`
		Time    time.Time `json:"time"`
		Request struct {
			IP       string `json:"ip"`
			Path     string `json:"path"`
			Identity string `json:"identity"`
		} `json:"request"`
		Response struct {
			Code int           `json:"code"`
			Time time.Duration `json:"time"`
		} `json:"response"`
	}
	if json.Unmarshal(line, &e) != nil {
		return
	}
	if e.Message != "" {
		c.printf("%s\n", e.Message)
		return
	}
	id := e.Request.Identity
	if len(id) > 10 {
		id = id[:10]
	}
	c.printf("%s  %d  %-10s  %-15s  %-40s  %s\n", e.Time.Local().Format(time.TimeOnly), e.Response.Code, id, e.Request.IP, e.Request.Path, e.Response.Time.Round(time.Microsecond))
}

const metricUsage = `Usage:
    kes metric [OPTIONS]

Prints the server's metrics, again and again.

Options:
        --rate DURATION      how often (default 5s)
` + askingUsage

func (c *call) metric() error {
	rate := 5 * time.Second
	if text := c.text("rate"); text != "" {
		var err error
		if rate, err = time.ParseDuration(text); err != nil || rate <= 0 {
			return fmt.Errorf("--rate: %q is no duration, such as 5s", text)
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	tick := time.NewTicker(rate)
	defer tick.Stop()
	for {
		answer, err := client.open(c.ctx, http.MethodGet, "/v1/metrics", nil)
		if err != nil {
			if c.ctx.Err() != nil {
				return nil
			}
			return err
		}
		m, err := readMetrics(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		if c.tty {
			m.print(c)
		} else if err := c.printJSON(m); err != nil {
			return err
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// metricOut has the names that the SDK gives them.
type metricOut struct {
	Success uint64            `json:"kes_http_request_success"`
	Error   uint64            `json:"kes_http_request_error"`
	Failure uint64            `json:"kes_http_request_failure"`
	Active  uint64            `json:"kes_http_request_active"`
	Audit   uint64            `json:"kes_log_audit_events"`
	Errors  uint64            `json:"kes_log_error_events"`
	Times   map[string]uint64 `json:"kes_http_response_time"` // nanoseconds → requests
	UpTime  int64             `json:"kes_system_up_time"`     // nanoseconds
	Heap    uint64            `json:"kes_system_mem_heap_used"`
	Objects uint64            `json:"kes_system_mem_heap_objects"`
	Stack   uint64            `json:"kes_system_mem_stack_used"`
	CPUs    uint64            `json:"kes_system_num_cpu"`
	Used    uint64            `json:"kes_system_num_cpu_used"`
	Threads uint64            `json:"kes_system_num_threads"`
}

// readMetrics reads Prometheus's text format.
func readMetrics(r io.Reader) (*metricOut, error) {
	m := &metricOut{Times: map[string]uint64{}}
	plain := map[string]*uint64{
		"kes_http_request_success": &m.Success, "kes_http_request_error": &m.Error, "kes_http_request_failure": &m.Failure,
		"kes_http_request_active": &m.Active, "kes_log_audit_events": &m.Audit, "kes_log_error_events": &m.Errors,
		"kes_system_mem_heap_used": &m.Heap, "kes_system_mem_heap_objects": &m.Objects, "kes_system_mem_stack_used": &m.Stack,
		"kes_system_num_cpu": &m.CPUs, "kes_system_num_cpu_used": &m.Used, "kes_system_num_threads": &m.Threads,
	}
	lines := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil || value < 0 || value > 1<<62 {
			continue
		}
		name, labels, _ := strings.Cut(line[:at], "{")
		if to := plain[name]; to != nil {
			*to += uint64(value)
		}
		switch name {
		case "kes_system_up_time":
			m.UpTime = int64(value * float64(time.Second))
		case "kes_http_response_time_bucket":
			text := strings.TrimSuffix(strings.TrimPrefix(labels, `le="`), `"}`)
			if s, err := strconv.ParseFloat(text, 64); err == nil && s < 1e9 {
				m.Times[strconv.FormatInt(int64(s*float64(time.Second)), 10)] = uint64(value)
			}
		}
	}
	return m, lines.Err()
}

func (m *metricOut) print(c *call) {
	c.printf("\n")
	c.row("Requests", fmt.Sprintf("%d good, %d refused, %d failed, %d active", m.Success, m.Error, m.Failure, m.Active))
	c.row("Events", fmt.Sprintf("%d audit, %d error", m.Audit, m.Errors))
	c.row("Uptime", time.Duration(m.UpTime).Round(time.Second).String())
	c.row("CPUs", fmt.Sprintf("%d/%d, %d threads", m.Used, m.CPUs, m.Threads))
	c.row("Memory", fmt.Sprintf("heap %s, stack %s", bytesText(m.Heap), bytesText(m.Stack)))
}

// installCompletion makes the shells ask this program what may follow.
func (a *app) installCompletion() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	home := a.env["HOME"]
	if home == "" {
		return errors.New("HOME is not set: where the shells' files are cannot be told")
	}
	// The program finds out by its name which command line it is.
	if link := filepath.Join(filepath.Dir(program), "kes"); filepath.Base(program) != "kes" {
		program = link
	}
	line := "complete -o default -C " + program + " kes"
	for file, text := range map[string]string{
		".bashrc": line,
		".zshrc":  "autoload -U +X bashcompinit && bashcompinit; " + line,
	} {
		path := filepath.Join(home, file)
		old, err := os.ReadFile(path) //nolint:gosec // the user's own file
		if err != nil && file == ".zshrc" || strings.Contains(string(old), line) {
			continue // no zsh here, or done already
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // the user's own file
		if err != nil {
			return err
		}
		_, err = f.WriteString("\n" + text + "\n")
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		a.printf("Completion is installed in %s: it works in the next shell.\n", path)
	}
	return nil
}
