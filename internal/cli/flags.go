package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A flagSet declares and parses one command's flags. It is Go's flag package
// with three additions: flags may stand behind arguments, durations may be bare
// seconds or days, and lists and maps may be repeated.
type flagSet struct {
	std   *flag.FlagSet
	infos []flagInfo
	set   map[string]bool // names given on the command line, aliases resolved
	alias map[string]string
}

// flagInfo is what help and completion know about a flag.
type flagInfo struct {
	name, arg, help string
	shared          bool
	isBool          bool
	values          []string // for completion
}

func newFlagSet() *flagSet {
	std := flag.NewFlagSet("", flag.ContinueOnError)
	std.SetOutput(io.Discard)
	std.Usage = func() {}
	return &flagSet{std: std, set: map[string]bool{}, alias: map[string]string{}}
}

func (f *flagSet) note(name, arg, help string, isBool bool) {
	f.infos = append(f.infos, flagInfo{name: name, arg: arg, help: help, isBool: isBool})
}

// also gives the flag declared last further names.
func (f *flagSet) also(names ...string) {
	last := f.infos[len(f.infos)-1].name
	v := f.std.Lookup(last)
	for _, n := range names {
		f.alias[n] = last
		f.std.Var(v.Value, n, "")
	}
}

// oneOf tells completion the values of the flag declared last.
func (f *flagSet) oneOf(values ...string) { f.infos[len(f.infos)-1].values = values }

func (f *flagSet) String(name, def, arg, help string) *string {
	f.note(name, arg, help, false)
	return f.std.String(name, def, help)
}

func (f *flagSet) Bool(name string, def bool, help string) *bool {
	f.note(name, "", help, true)
	return f.std.Bool(name, def, help)
}

// Int accepts any 64-bit integer; its errors name the strconv function, as
// Vault's do.
func (f *flagSet) Int(name string, def int, help string) *int {
	f.note(name, "int", help, false)
	v := def
	f.std.Var(&funcValue{func(s string) error {
		n, err := strconv.ParseInt(s, 0, 64)
		if err == nil {
			v = int(n)
		}
		return err
	}}, name, help)
	return &v
}

func (f *flagSet) Duration(name, help string) *time.Duration {
	f.note(name, "duration", help, false)
	var v time.Duration
	f.std.Var(&funcValue{func(s string) (err error) {
		v, err = parseDuration(s)
		return err
	}}, name, help)
	return &v
}

// Strings collects every use of a flag.
func (f *flagSet) Strings(name, arg, help string) *[]string {
	f.note(name, arg, help, false)
	var v []string
	f.std.Var(&funcValue{func(s string) error {
		v = append(v, strings.TrimSpace(s))
		return nil
	}}, name, help)
	return &v
}

// List collects comma-separated values over every use of a flag.
func (f *flagSet) List(name, arg, help string) *[]string {
	f.note(name, arg, help, false)
	var v []string
	f.std.Var(&funcValue{func(s string) error {
		for _, part := range strings.Split(s, ",") {
			v = append(v, strings.TrimSpace(part))
		}
		return nil
	}}, name, help)
	return &v
}

// Map collects key=value over every use of a flag.
func (f *flagSet) Map(name, help string) *map[string]string {
	f.note(name, "key=value", help, false)
	var v map[string]string
	f.std.Var(&funcValue{func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("missing = in KV pair: %s", s)
		}
		if v == nil {
			v = map[string]string{}
		}
		v[key] = value
		return nil
	}}, name, help)
	return &v
}

// given reports whether the flag stood on the command line.
func (f *flagSet) given(name string) bool { return f.set[name] }

// parse reads flags wherever they stand and returns the other arguments.
func (f *flagSet) parse(args []string) ([]string, error) {
	positional := []string{}
	for {
		before := len(args)
		if err := f.std.Parse(args); err != nil {
			return nil, err
		}
		rest := f.std.Args()
		if terminated := before > len(rest) && args[before-len(rest)-1] == "--"; terminated || len(rest) == 0 {
			positional = append(positional, rest...)
			break
		}
		positional, args = append(positional, rest[0]), rest[1:]
	}
	f.std.Visit(func(v *flag.Flag) {
		name := v.Name
		if real, ok := f.alias[name]; ok {
			name = real
		}
		f.set[name] = true
	})
	return positional, nil
}

func (f *flagSet) sorted(shared bool) []flagInfo {
	var out []flagInfo
	for _, i := range f.infos {
		if i.shared == shared {
			out = append(out, i)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// funcValue makes a flag.Value of a function.
type funcValue struct{ assign func(string) error }

func (v *funcValue) String() string     { return "" }
func (v *funcValue) Set(s string) error { return v.assign(s) }

var errEmptyDuration = errors.New(`time: invalid duration ""`)

// parseDuration reads Go's form, bare seconds ("60") and days ("2d").
func parseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errEmptyDuration
	}
	if last := s[len(s)-1]; last >= '0' && last <= '9' {
		s += "s"
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}
