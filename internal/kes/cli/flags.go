package cli

import (
	"errors"
	"fmt"
	"strings"
)

var errHelp = errors.New("help")

// flags are a command's flags in GNU style: --name=value, --name value, -n, mixed
// with arguments; "--" ends them.
type flags struct {
	byName map[string]*option
}

type option struct {
	name   string // the long name
	takes  bool   // a value
	values []string
	given  bool
}

func newFlags() *flags { return &flags{map[string]*option{}} }

// on declares a switch, by its long name and perhaps a short one.
func (f *flags) on(names ...string) { f.add(false, names) }

// takes declares a flag with a value, which may be repeated.
func (f *flags) takes(names ...string) { f.add(true, names) }

func (f *flags) add(value bool, names []string) {
	o := &option{name: names[0], takes: value}
	for _, n := range names {
		f.byName[n] = o
	}
}

func (f *flags) is(name string) bool { o := f.byName[name]; return o != nil && o.given }

// text returns a flag's last value.
func (f *flags) text(name string) string {
	o := f.byName[name]
	if o == nil || len(o.values) == 0 {
		return ""
	}
	return o.values[len(o.values)-1]
}

// list returns all values of a repeated flag, of which each may be several with
// commas.
func (f *flags) list(name string) []string {
	var out []string
	if o := f.byName[name]; o != nil {
		for _, v := range o.values {
			for _, part := range strings.Split(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					out = append(out, part)
				}
			}
		}
	}
	return out
}

// parse reads the flags and returns the arguments.
func (f *flags) parse(args []string) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		var err error
		if strings.HasPrefix(arg, "--") {
			args, err = f.long(arg, args)
		} else {
			args, err = f.short(arg, args)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (f *flags) long(arg string, args []string) ([]string, error) {
	name, value, with := strings.Cut(arg[2:], "=")
	o := f.byName[name]
	switch {
	case o == nil && name == "help":
		return nil, errHelp
	case o == nil || len(name) < 2:
		return nil, fmt.Errorf("unknown flag: --%s", name)
	case !o.takes && with && value != "true" && value != "false":
		return nil, fmt.Errorf("the flag --%s takes no value", name)
	case !o.takes:
		o.given = value != "false"
		return args, nil
	case !with && len(args) == 0:
		return nil, fmt.Errorf("the flag --%s needs a value", name)
	case !with:
		value, args = args[0], args[1:]
	}
	o.given = true
	o.values = append(o.values, value)
	return args, nil
}

// short reads "-k", "-s value", "-svalue", and switches together, "-ip".
func (f *flags) short(arg string, args []string) ([]string, error) {
	for letters := arg[1:]; letters != ""; {
		name := letters[:1]
		letters = letters[1:]
		o := f.byName[name]
		switch {
		case o == nil && name == "h":
			return nil, errHelp
		case o == nil:
			return nil, fmt.Errorf("unknown flag: -%s", name)
		case !o.takes:
			o.given = true
			continue
		case letters != "":
			letters = strings.TrimPrefix(letters, "=")
		case len(args) > 0:
			letters, args = args[0], args[1:]
		default:
			return nil, fmt.Errorf("the flag -%s needs a value", name)
		}
		o.given = true
		o.values = append(o.values, letters)
		letters = ""
	}
	return args, nil
}
