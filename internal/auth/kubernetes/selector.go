package kubernetes

import (
	"errors"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"arca/internal/errs"
)

// Bounds on a selector.
const (
	maxSelectorBytes = 16 << 10
	maxRequirements  = 100
)

// A selector chooses namespaces by their labels, in the form of Kubernetes
// (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/label-selector).
type selector struct {
	Labels      map[string]string `yaml:"matchLabels"`
	Expressions []requirement     `yaml:"matchExpressions"`
}

type requirement struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

// Operators of a requirement.
const (
	opIn     = "In"
	opNotIn  = "NotIn"
	opExists = "Exists"
	opAbsent = "DoesNotExist"
)

// parseSelector reads a selector in JSON or YAML. One without requirements, which
// would choose every namespace, is refused: * in the list of namespaces says it.
func parseSelector(text string) (*selector, error) {
	if len(text) > maxSelectorBytes {
		return nil, errs.New(errs.Invalid, "the namespace selector is longer than %d bytes", maxSelectorBytes)
	}
	s := &selector{}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true) // numbers, dates and the like are the texts that labels are, as they are written
	if err := d.Decode(s); err != nil && !errors.Is(err, io.EOF) {
		return nil, errs.New(errs.Invalid, "failed to parse the namespace selector as JSON or YAML: %s", err.Error())
	}
	switch n := len(s.Labels) + len(s.Expressions); {
	case n == 0:
		return nil, errs.New(errs.Invalid, "the namespace selector has neither matchLabels nor matchExpressions")
	case n > maxRequirements:
		return nil, errs.New(errs.Invalid, "the namespace selector has more than %d requirements", maxRequirements)
	}
	for _, r := range s.Expressions {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	if _, empty := s.Labels[""]; empty {
		return nil, errs.New(errs.Invalid, "the namespace selector has a label without a name")
	}
	return s, nil
}

func (r *requirement) check() error {
	switch {
	case r.Key == "":
		return errs.New(errs.Invalid, "the namespace selector has an expression without key")
	case len(r.Values) > maxRequirements:
		return errs.New(errs.Invalid, "the namespace selector has an expression with more than %d values", maxRequirements)
	}
	switch r.Operator {
	case opIn, opNotIn:
		if len(r.Values) == 0 {
			return errs.New(errs.Invalid, "the namespace selector's operator %s needs values", r.Operator)
		}
	case opExists, opAbsent:
		if len(r.Values) > 0 {
			return errs.New(errs.Invalid, "the namespace selector's operator %s takes no values", r.Operator)
		}
	default:
		return errs.New(errs.Invalid, "the namespace selector has no operator %q; there are In, NotIn, Exists and DoesNotExist", r.Operator)
	}
	return nil
}

// fits reports whether labels meet every requirement.
func (s *selector) fits(labels map[string]string) bool {
	for k, want := range s.Labels {
		if v, ok := labels[k]; !ok || v != want {
			return false
		}
	}
	for i := range s.Expressions {
		if !s.Expressions[i].fits(labels) {
			return false
		}
	}
	return true
}

func (r *requirement) fits(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Operator {
	case opIn:
		return ok && slices.Contains(r.Values, v)
	case opNotIn:
		return !ok || !slices.Contains(r.Values, v)
	case opExists:
		return ok
	case opAbsent:
		return !ok
	}
	return false
}
