package cli

import (
	"fmt"
	"runtime"
	"strings"
)

// A command is a row of the table. A group has no run.
type command struct {
	name        string // "key create"
	usage       string
	least, most int // how many arguments; most < 0 is any number
	flags       func(*flags)
	run         func(*call) error
}

type table []command

func (t table) find(name string) *command {
	for i := range t {
		if t[i].name == name {
			return &t[i]
		}
	}
	return nil
}

// What most commands that ask a server take.
func asking(f *flags) {
	f.on("insecure", "k")
	f.takes("enclave", "e")
	f.takes("api-key", "a")
	f.takes("server", "s")
}

func listing(f *flags) {
	asking(f)
	f.on("json")
	f.takes("color")
}

const askingUsage = `    -k, --insecure           do not check the server's certificate
    -s, --server HOST        the server, instead of KES_SERVER
    -a, --api-key KEY        the API key, instead of KES_API_KEY
    -e, --enclave NAME       accepted for older scripts, and ignored
    -h, --help               print this text
`

const listingUsage = `        --json               print JSON
        --color WHEN         auto, always or never
` + askingUsage

func usage(line, about, options string) string {
	out := "Usage:\n    kes " + line + "\n\n" + about + "\n"
	if options != "" {
		out += "\nOptions:\n" + options
	}
	return out
}

func group(name, about string, rows ...string) command {
	text := "Usage:\n    kes " + name + " COMMAND\n\n" + about + "\n\nCommands:\n"
	for i := 0; i+1 < len(rows); i += 2 {
		text += fmt.Sprintf("    %-20s %s\n", rows[i], rows[i+1])
	}
	return command{name: name, usage: text + "\nOptions:\n    -h, --help               print this text\n", flags: func(*flags) {}}
}

// gone is a command of an earlier KES that has nothing to do any more.
func gone(name, instead string) command {
	return command{
		name: name, usage: usage(name, "This command of an earlier KES is gone: "+instead+".", ""), most: -1,
		flags: func(f *flags) { asking(f); f.on("force", "f"); f.takes("config") },
		run:   func(*call) error { return fmt.Errorf("kes %s is gone: %s", name, instead) },
	}
}

func rootUsage() string {
	return `Usage:
    kes COMMAND [OPTIONS]

Commands:
    server                   start a KES server
    init                     (of 2023: gone)

    key                      manage and use keys
    policy                   look at policies
    identity                 make and look at identities
    ls                       list keys, policies or identities

    log                      follow the error or audit log
    status                   print the server's status
    metric                   print the server's metrics

    migrate                  copy keys between key stores
    import                   take a KES server over into arca
    update                   (this program does not update itself)

Options:
    -v, --version            print the version
        --auto-completion    install completion for bash and zsh
    -h, --help               print this text

A command tells more with --help. The server is named by KES_SERVER, who asks by
KES_API_KEY, or KES_CLIENT_CERT and KES_CLIENT_KEY.
`
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH + " " + runtime.Version() }

const stateful = "policies and identities of a KES server stand in its configuration file; send the server a hang-up signal to have it read again"

// commands is all commands.
func commands() table {
	return append(table{
		{
			name: "server", most: 0, usage: serverUsage, run: (*call).server,
			flags: func(f *flags) {
				f.takes("addr")
				f.takes("config")
				f.takes("auth")
				f.takes("key")
				f.takes("cert")
				f.on("dev")
				f.on("mlock")
			},
		},
		{name: "ls", most: 1, usage: lsUsage, run: (*call).ls, flags: func(f *flags) {
			listing(f)
			f.on("identity", "i")
			f.on("policy", "p")
		}},
		{name: "log", most: 0, usage: logUsage, run: (*call).follow, flags: func(f *flags) { listing(f); f.on("audit"); f.on("error") }},
		{name: "status", most: 0, usage: statusUsage, run: (*call).status, flags: func(f *flags) {
			f.on("insecure", "k")
			f.takes("api-key", "a")
			f.takes("server")
			f.on("short", "s")
			f.on("api")
			f.on("json")
			f.takes("color")
		}},
		{name: "metric", most: 0, usage: metricUsage, run: (*call).metric, flags: func(f *flags) { asking(f); f.takes("rate") }},
		{name: "migrate", most: 1, usage: migrateUsage, run: (*call).migrate, flags: func(f *flags) {
			f.takes("from")
			f.takes("to")
			f.on("force", "f")
			f.on("merge")
			f.on("quiet", "q")
			f.takes("server", "s")
			f.takes("enclave", "e")
			f.takes("api-key", "a")
			f.on("insecure", "k")
		}},
		{name: "import", most: 1, usage: importUsage, run: (*call).importAll, flags: importFlags},
		{name: "update", most: 1, usage: updateUsage, run: (*call).update, flags: func(f *flags) {
			f.on("downgrade", "d")
			f.takes("output", "o")
			f.takes("os")
			f.takes("arch")
			f.takes("minisign-key")
			f.on("insecure", "k")
		}},
		gone("init", "a KES server has no state of its own; it starts with a configuration file, or with --dev"),
		gone("enclave", "a KES server has no state of its own; let several servers share a key store, each with a prefix or a namespace"),
		gone("secret", "keep secrets in the K/V engine of arca, and their keys here"),
		gone("policy create", stateful),
		gone("policy assign", stateful),
		gone("policy rm", stateful),
		gone("identity rm", stateful),
	}, append(keyCommands(), whoCommands()...)...)
}

// complete answers a shell that asks what may follow a line.
func (a *app) complete(line string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	words = words[1:]
	last := ""
	if !strings.HasSuffix(line, " ") && len(words) > 0 {
		last = words[len(words)-1]
		words = words[:len(words)-1]
	}
	before := strings.Join(words, " ")
	if before != "" {
		before += " "
	}
	seen := map[string]bool{}
	for _, c := range commands() {
		rest, ok := strings.CutPrefix(c.name, before)
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(word, last) && word != "" && !seen[word] {
			seen[word] = true
			a.printf("%s\n", word)
		}
	}
}
