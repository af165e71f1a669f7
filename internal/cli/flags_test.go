package cli

import (
	"reflect"
	"testing"
	"time"
)

func TestParseFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name           string
		args, want     []string
		field, message string
		force          bool
		ttl            time.Duration
	}{
		{name: "before", args: []string{"-field=x", "a"}, want: []string{"a"}, field: "x"},
		{name: "behind", args: []string{"a", "-field", "x", "b"}, want: []string{"a", "b"}, field: "x"},
		{name: "double dash", args: []string{"--field", "x", "a", "--force"}, want: []string{"a"}, field: "x", force: true},
		{name: "alias", args: []string{"-f", "a"}, want: []string{"a"}, force: true},
		{name: "stdin is an argument", args: []string{"a", "-", "-f"}, want: []string{"a", "-"}, force: true},
		{name: "end of flags", args: []string{"a", "--", "-f", "b"}, want: []string{"a", "-f", "b"}},
		{name: "seconds", args: []string{"-ttl=90"}, want: []string{}, ttl: 90 * time.Second},
		{name: "days", args: []string{"-ttl=2d"}, want: []string{}, ttl: 48 * time.Hour},
		{name: "unknown", args: []string{"a", "-nosuch"}, message: "flag provided but not defined: -nosuch"},
		{name: "bad duration", args: []string{"-ttl=abc"}, message: `invalid value "abc" for flag -ttl: time: invalid duration "abc"`},
		{name: "bad days", args: []string{"-ttl=bad"}, message: `invalid value "bad" for flag -ttl: strconv.ParseInt: parsing "ba": invalid syntax`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFlagSet()
			field := f.String("field", "", "name", "")
			force := f.Bool("force", false, "")
			f.also("f")
			ttl := f.Duration("ttl", "")
			got, err := f.parse(tc.args)
			if err != nil {
				if err.Error() != tc.message {
					t.Errorf("error %q, want %q", err, tc.message)
				}
				return
			}
			if !reflect.DeepEqual(got, tc.want) || *field != tc.field || *force != tc.force || *ttl != tc.ttl {
				t.Errorf("got %q field=%q force=%v ttl=%v", got, *field, *force, *ttl)
			}
			if tc.force && !f.given("force") {
				t.Error("force not noted as given")
			}
		})
	}
}

func TestBanner(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, want string
	}{
		{"secret/data/secret1", "=== Secret Path ==="},
		{"secret/data/ff", "= Secret Path ="},
		{"ckw/data/a", "== Secret Path =="},
		{"deep/er/kv/data/a/b/c", "==== Secret Path ===="},
	} {
		if got := banner("Secret Path", len(tc.path)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.path, got, tc.want)
		}
	}
}

func TestHuman(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int]string{0: "0s", 60: "1m", 90: "1m30s", 3600: "1h", 2764800: "768h", 3661: "1h1m1s", 610: "10m10s"} {
		if got := humanSeconds(seconds); got != want {
			t.Errorf("%d: got %s, want %s", seconds, got, want)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"vault op":                           "operator\n",
		"vault operator raft sn":             "snapshot\n",
		"vault kv get -fo":                   "-format\n",
		"vault read -format=j":               "-format=json\n",
		"vault read -format ":                "table\njson\nyaml\nraw\npretty\n",
		"vault plugin list ":                 "auth\ndatabase\nsecret\n",
		"vault operator raft snapshot save ": "",
	} {
		if got := vault(t, []string{"COMP_LINE=" + line}, ""); got.out != want {
			t.Errorf("%q: got %q, want %q", line, got.out, want)
		}
	}
}

// Every command has its texts, and flags that do not clash.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, cmd := range commands(Config{}) {
		if seen[cmd.name] {
			t.Errorf("%s: twice in the table", cmd.name)
		}
		seen[cmd.name] = true
		if cmd.summary == "" || cmd.about == "" || cmd.setup == nil {
			t.Errorf("%s: lacks a text or setup", cmd.name)
		}
		f := newFlagSet()
		declareShared(f, cmd.shared)
		cmd.setup(f) // panics when a flag is declared twice
		if got := vault(t, nil, "", append(splitName(cmd.name), "-help")...); got.code != 0 || got.out == "" {
			t.Errorf("%s -help: %+v", cmd.name, got)
		}
	}
}

func splitName(name string) []string {
	var words []string
	start := 0
	for i := range name {
		if name[i] == ' ' {
			words, start = append(words, name[start:i]), i+1
		}
	}
	return append(words, name[start:])
}
