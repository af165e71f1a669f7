// Package discovery finds the nodes of a cluster that a new one may join: by a rule in the form of HashiCorp's go-discover, key=value pairs of
// which the first names a provider. There are k8s, by the API of Kubernetes, and dns. Those of clouds need their vendors' libraries, and are not
// there.
package discovery

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"arca/internal/errs"
	"arca/internal/server/kubernetes"
)

// A Rule finds addresses. It is safe for concurrent use.
type Rule struct {
	find func(ctx context.Context) ([]string, error)
}

// Bounds.
const (
	maxRule  = 4 << 10
	maxFound = 1000
)

// elsewhere are the providers of go-discover that are not there.
var elsewhere = []string{
	"aliyun", "aws", "azure", "digitalocean", "gce", "hcp", "linode", "mdns", "os", "packet", "scaleway", "softlayer", "tencentcloud", "triton", "vsphere",
}

// A Source is where a rule comes from.
type Source int

// Only the configuration file may name files: whoever sends a request has shown no right to have any read.
const (
	FromRequest Source = iota
	FromConfig
)

// New reads a rule. It asks nobody.
func New(text string, from Source, getenv func(string) string) (*Rule, error) {
	args, err := parse(text)
	if err != nil {
		return nil, err
	}
	take := func(name string) string {
		v := args[name]
		delete(args, name)
		return v
	}
	var r *Rule
	switch provider := take("provider"); {
	case provider == "k8s":
		r, err = newPods(take, from, getenv)
	case provider == "dns":
		r, err = newNames(take)
	case provider == "":
		return nil, errs.New(errs.Invalid, "the rule names no provider: provider=k8s and provider=dns are there")
	case slices.Contains(elsewhere, provider):
		return nil, errs.New(errs.Invalid, "provider=%s is not part of arca: there are k8s and dns; or give the addresses themselves (leader_api_addr)", provider)
	default:
		return nil, errs.New(errs.Invalid, "there is no provider %q: there are k8s and dns", provider)
	}
	if err != nil {
		return nil, err
	}
	for name := range args {
		return nil, errs.New(errs.Invalid, "the provider does not know %q", name)
	}
	return r, nil
}

// Find returns addresses: a host, or a host and a port where that is known.
func (r *Rule) Find(ctx context.Context) ([]string, error) {
	list, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) == 0 {
		return nil, errs.New(errs.NotFound, "no node was found")
	}
	return list[:min(len(list), maxFound)], nil
}

// Complete makes the URL of a node's API of an address that was found.
func Complete(address, scheme string, port uint) string {
	if scheme == "" {
		scheme = "https"
	}
	if port == 0 {
		port = 8200
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.FormatUint(uint64(port), 10))
	}
	return scheme + "://" + address
}

// parse reads key=value pairs, with blanks between them. A value with blanks, or a key, stands in quotes, in which a backslash takes the next
// character as it is.
func parse(text string) (map[string]string, error) {
	if len(text) > maxRule {
		return nil, errs.New(errs.TooLarge, "a rule has %d bytes at most", maxRule)
	}
	args := map[string]string{}
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, err := word(rest, true)
		if err != nil {
			return nil, err
		}
		if key == "" || !strings.HasPrefix(after, "=") {
			return nil, errs.New(errs.Invalid, "the rule must be key=value pairs with blanks between them, as in provider=k8s label_selector=\"app=vault\"")
		}
		value, after, err := word(after[1:], false)
		if err != nil {
			return nil, err
		}
		if after != "" && after[0] != ' ' && after[0] != '\t' && after[0] != '\n' {
			return nil, errs.New(errs.Invalid, "the rule lacks a blank behind the value of %q", key)
		}
		if _, ok := args[key]; ok {
			return nil, errs.New(errs.Invalid, "the rule has %q twice", key)
		}
		args[key], rest = value, after
	}
	return args, nil
}

// word reads up to a blank or, for a key, an equals sign, or what is quoted.
func word(text string, key bool) (w, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || key && r == '=' })
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errs.New(errs.Invalid, "the rule lacks a quotation mark at its end")
}

// newNames resolves a name: its addresses, or by SRV records hosts and ports.
func newNames(take func(string) string) (*Rule, error) {
	name, typ := take("name"), strings.ToLower(take("type"))
	if name == "" {
		return nil, errs.New(errs.Invalid, "provider=dns needs a name, as in name=vault-internal.vault.svc")
	}
	switch typ {
	case "", "a":
		return &Rule{func(ctx context.Context) ([]string, error) {
			list, err := net.DefaultResolver.LookupHost(ctx, name)
			if err != nil {
				return nil, errs.New(errs.Unavailable, "%w", err)
			}
			return list, nil
		}}, nil
	case "srv":
		return &Rule{func(ctx context.Context) ([]string, error) {
			_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
			if err != nil && len(records) == 0 {
				return nil, errs.New(errs.Unavailable, "%w", err)
			}
			var list []string
			for _, r := range records {
				list = append(list, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
			}
			return list, nil
		}}, nil
	}
	return nil, errs.New(errs.Invalid, "type of provider=dns is a or srv, not %q", typ)
}

// portAnnotation names a pod's port: a number, or that of a container's port.
const portAnnotation = "consul.hashicorp.com/auto-join-port"

// pod is what counts of one.
type pod struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Containers []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort int    `json:"containerPort"`
				HostPort      int    `json:"hostPort"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		PodIP      string `json:"podIP"`
		HostIP     string `json:"hostIP"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// newPods lists pods.
func newPods(take func(string) string, from Source, getenv func(string) string) (*Rule, error) {
	file, namespace := take("kubeconfig"), take("namespace")
	if file != "" && from != FromConfig {
		return nil, errs.New(errs.Invalid, "kubeconfig names a file, which only retry_join in the configuration file may: write the rule there")
	}
	if namespace == "" {
		namespace = "default"
	}
	query := url.Values{}
	if s := take("label_selector"); s != "" {
		query.Set("labelSelector", s)
	}
	if s := take("field_selector"); s != "" {
		query.Set("fieldSelector", s)
	}
	onHost := false
	if text := take("host_network"); text != "" {
		var err error
		if onHost, err = strconv.ParseBool(text); err != nil {
			return nil, errs.New(errs.Invalid, "host_network must be true or false, not %q", text)
		}
	}
	var c *kubernetes.Client
	var err error
	if file != "" {
		c, err = kubernetes.FromFile(file)
	} else {
		c, err = kubernetes.InCluster("", getenv)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "provider=k8s: %w", err)
	}
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods?" + query.Encode()
	return &Rule{func(ctx context.Context) ([]string, error) {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		defer c.Close() // it may be long until the next time
		if err := c.Do(ctx, http.MethodGet, path, "", nil, &list); err != nil {
			return nil, err
		}
		var found []string
		for _, raw := range list.Items {
			var p pod
			if err := json.Unmarshal(raw, &p); err != nil {
				return nil, errs.New(errs.Failed, "Kubernetes describes a pod in a way that is not understood: %w", err)
			}
			if address := p.address(onHost); address != "" {
				found = append(found, address)
			}
		}
		return found, nil
	}}, nil
}

// address is where the pod is reached; "" where it is not, or not yet.
func (p *pod) address(onHost bool) string {
	if p.Status.Phase != "Running" {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status != "True" {
			return ""
		}
	}
	host := p.Status.PodIP
	if onHost {
		host = p.Status.HostIP
	}
	port := p.Metadata.Annotations[portAnnotation]
	if host == "" || port == "" {
		return host
	}
	if _, err := strconv.ParseUint(port, 10, 16); err == nil {
		return net.JoinHostPort(host, port)
	}
	for _, c := range p.Spec.Containers {
		for _, named := range c.Ports {
			if named.Name != port {
				continue
			}
			n := named.ContainerPort
			if onHost {
				n = named.HostPort
			}
			return net.JoinHostPort(host, strconv.Itoa(n))
		}
	}
	return ""
}
