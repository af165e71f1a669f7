package server

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/errs"
	"arca/internal/logging"
	"arca/internal/server/diagnose"
)

// How long a stop may take: drainTime for the requests inside to end by
// themselves, coreTime for the core to close, which ends streams, and lastTime
// for the last answers to go out; then what is left is cut off.
const (
	drainTime = 3 * time.Second
	coreTime  = 10 * time.Second
	lastTime  = 500 * time.Millisecond
)

// listen collects the signals that the server acts on, from before it is open:
// one that comes early waits and ends nothing half-way.
func listen() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2)
	gone := make(chan os.Signal, 1) // a log whose reader is gone ends no server: who takes SIGPIPE gets an error
	signal.Notify(gone, syscall.SIGPIPE)
	return signals, func() { signal.Stop(signals); signal.Stop(gone) }
}

// run serves until a signal, ctx or a listener's failure, and returns the exit
// code.
func (n *node) run(ctx context.Context, signals <-chan os.Signal) int {
	failed := make(chan error, len(n.listeners))
	var serving sync.WaitGroup
	for _, l := range n.listeners {
		serving.Go(func() { failed <- l.Serve() })
	}
	unregister := n.register()
	n.started()
	notify("READY=1")
	code := 0
	for running := true; running; {
		select {
		case s := <-signals:
			running = n.signal(s)
		case <-ctx.Done():
			running = false
		case err := <-failed:
			if err != nil {
				n.log.Named("server").Error("a listener failed", "error", err)
				code, running = 1, false
			}
		}
	}
	notify("STOPPING=1")
	fmt.Fprintln(n.env.Out, "==> Vault shutdown triggered")
	stopped := make(chan struct{})
	go func() { // a second signal is impatient
		select {
		case <-stopped:
		case <-signals:
			os.Exit(1)
		}
	}()
	unregistered := unregister()
	n.stop()
	<-unregistered
	serving.Wait()
	close(stopped)
	return code
}

// exit ends the process at once, when it cannot go on. The log has said why.
func (n *node) exit() {
	n.closeLog()
	os.Exit(1)
}

// signal acts on a signal and reports whether the server goes on.
func (n *node) signal(s os.Signal) bool {
	switch s {
	case syscall.SIGHUP:
		fmt.Fprintln(n.env.Out, "==> Vault reload triggered")
		notify("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(monotonicMicros(), 10))
		n.reload()
		notify("READY=1")
	case syscall.SIGUSR2:
		buf := make([]byte, 8<<20)
		_, _ = n.env.Err.Write(buf[:runtime.Stack(buf, true)]) // nowhere else to write it
	default:
		return false
	}
	return true
}

// stop ends the listeners and the core.
func (n *node) stop() {
	log := n.log.Named("server")
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	for _, door := range n.kes {
		door.Close()
	}
	var closing sync.WaitGroup
	for _, l := range n.listeners {
		closing.Go(func() {
			if err := l.Shutdown(ctx); err != nil {
				log.Warn("requests were cut off", "listener", l.Addr().String())
			}
		})
	}
	drained := make(chan struct{})
	go func() { closing.Wait(); close(drained) }()
	within(drainTime, drained)
	closed := make(chan struct{})
	go func() {
		n.closeStore()
		close(closed)
	}()
	if !within(coreTime, closed) {
		log.Error("the core did not stop in time")
	}
	within(lastTime, drained)
	cut()
	<-drained
	n.stopTelemetry()
	n.removePID()
	n.closeLog()
}

// within waits for done, but no longer than d, and reports whether it came.
func within(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// started says that the server serves, and what an operator should know.
func (n *node) started() {
	// The recorded development server does not say "will stream"; scripts wait
	// for the words before it.
	text := "Log data will stream in below:"
	if n.dev != nil {
		text = "The log follows:"
	}
	fmt.Fprintf(n.env.Out, "==> Vault server started! %s\n\n", text)
	log := n.log.Named("server")
	for _, l := range n.listeners {
		log.Debug("listening", "type", l.Stanza().Type, "address", l.Addr().String(), "tls", l.Stanza().TLS())
	}
	if n.dev != nil {
		return
	}
	for _, c := range diagnose.AtStart(n.cfg, n.opts.configs) {
		log.Warn("configuration", "problem", c.Message, "advice", c.Advice)
	}
	switch ok, err := n.core.SealManager().Initialised(context.Background()); {
	case err != nil:
		log.Error("read the seal's configuration", "error", err)
	case !ok:
		log.Warn("no keys were found: the server is not initialised; run 'vault operator init' to make the keys and the first token")
	default:
		log.Info("the server is sealed; run 'vault operator unseal' to open it")
	}
}

// reload reads again what can change while the server runs. What is bad is
// logged and stays as it was.
func (n *node) reload() {
	log := n.log.Named("server")
	problem := func(what string, err error) {
		if err != nil {
			log.Error("reload", "what", what, "error", err)
		}
	}
	cfg, warnings, err := n.configure()
	problem("configuration", err)
	if err == nil {
		n.warn(warnings)
		problem("log level", n.relevel(cfg))
		n.shown.Store(cfg)
	}
	for _, l := range n.listeners {
		problem("certificate", l.Reload())
	}
	for _, door := range n.kes {
		door.Recheck()
	}
	problem("log file", n.log.Reopen())
	if a := n.core.Active(); a != nil {
		problem("audit", a.Audit.Reload())
	}
	log.Info("reloaded")
}

func (n *node) relevel(cfg *config.Config) error {
	level, err := logging.ParseLevel(cfg.LogLevel)
	if err != nil {
		return errs.New(errs.Invalid, "there is no log level %q", cfg.LogLevel)
	}
	n.log.Configure(level)
	return nil
}

// warn logs the configuration's oddities.
func (n *node) warn(warnings []source.Warning) {
	for _, w := range warnings {
		n.log.Named("server").Warn("configuration", "problem", w.Text, "at", w.Pos.String())
	}
}
