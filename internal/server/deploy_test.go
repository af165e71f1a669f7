package server_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"arca/internal/config"
)

// S4-11 to S4-15: the unit restricts as the guide's does, and the example is a
// configuration that a server would start with.
func TestDeploy(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../deploy/systemd/arca.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"User=arca", "ProtectSystem=full", "ProtectHome=read-only", "PrivateTmp=yes", "PrivateDevices=yes", "SecureBits=keep-caps",
		"AmbientCapabilities=CAP_IPC_LOCK", "CapabilityBoundingSet=CAP_SYSLOG CAP_IPC_LOCK", "NoNewPrivileges=yes",
		"ExecReload=/bin/kill --signal HUP $MAINPID", "KillSignal=SIGINT", "TimeoutStopSec=30", "LimitMEMLOCK=infinity", "LimitCORE=0",
		"LimitNOFILE=524288", "LimitNPROC=524288", "ConditionFileNotEmpty=/etc/arca/arca.hcl",
	} {
		if !strings.Contains(string(unit), "\n"+want+"\n") {
			t.Errorf("the unit lacks %s", want)
		}
	}
	c, warnings, err := config.Load([]string{"../../deploy/config/arca.hcl"})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

// TestInstall has `make install` put everything where deploy/README.md says that it does.
func TestInstall(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make here")
	}
	readme, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := exec.CommandContext(t.Context(), "make", "-n", "-C", "../..", "install", "DESTDIR=/dest").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, steps)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `(/[^`]+)`").FindAllStringSubmatch(string(readme), -1)
	if len(rows) < 3 {
		t.Fatalf("the table has %d files", len(rows))
	}
	for _, row := range rows {
		if want := " deploy/" + row[1] + " /dest" + row[2] + "\n"; !strings.Contains(string(steps), want) {
			t.Errorf("no step ends with%s", want)
		}
	}
}
