// Package registration tells others where this server is and how it is: Kubernetes, by labels of the server's pod, or Consul, as a service with
// a check. Labels, tags, names and options are those of Vault's stanza service_registration.
//
// Whatever is told is told in the background, again and again until it is heard: what cannot be reached neither keeps a server from starting nor
// from stopping.
package registration

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
)

// A State is what is told of the server.
type State struct {
	Initialised, Sealed, Active bool
}

// Config of a Service.
type Config struct {
	Stanza  *config.Registration
	Getenv  func(string) string
	APIAddr string // at which clients reach the server
	Version string // of Vault, that is reported
	// State asks how the server is.
	State func(ctx context.Context) State
	Log   *slog.Logger
}

// A registry is whom it is told.
type registry interface {
	// tell says how the server is. changed is false where it was said before, and is repeated.
	tell(ctx context.Context, s State, changed bool) error
	// end says that the server stops.
	end(ctx context.Context) error
	// every is how often it must be repeated; 0 for never.
	every() time.Duration
}

// A Service keeps one registry up to date.
type Service struct {
	cfg  Config
	to   registry
	kick chan struct{}
}

// Times.
const (
	tellTime   = 10 * time.Second // for one attempt
	endTime    = 2 * time.Second  // for the last word
	firstPause = time.Second      // after an attempt that failed; doubled up to mostPause
	mostPause  = 30 * time.Second
	askAgain   = 5 * time.Second // while the server is not initialised, of which nobody is told
)

// New checks the stanza and makes its Service; nil where nothing is to be registered. It starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Stanza == nil {
		return nil, nil
	}
	s := &Service{cfg: cfg, kick: make(chan struct{}, 1)}
	var err error
	switch cfg.Stanza.Type {
	case "kubernetes":
		s.to, err = newPod(&cfg)
	case "consul":
		if cfg.Stanza.Options["disable_registration"] != "" {
			off, err := strconv.ParseBool(cfg.Stanza.Options["disable_registration"])
			if err != nil {
				err = errs.New(errs.Invalid, "%s: disable_registration must be true or false, not %q", cfg.Stanza.Pos, cfg.Stanza.Options["disable_registration"])
			}
			if off || err != nil {
				return nil, err
			}
		}
		s.to, err = newConsul(&cfg)
	default:
		return nil, errs.New(errs.Invalid, "%s: there is no service_registration %q; there are kubernetes and consul", cfg.Stanza.Pos, cfg.Stanza.Type)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "%s: service_registration %q: %w", cfg.Stanza.Pos, cfg.Stanza.Type, err)
	}
	return s, nil
}

// Changed says that the server's state may have changed. It never waits.
func (s *Service) Changed() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run tells until ctx ends, and then that the server stops, for which it takes two seconds at most.
func (s *Service) Run(ctx context.Context) {
	var told State
	known, failed, said := false, time.Duration(0), ""
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			s.end()
			return
		case <-s.kick:
		case <-t.C:
		}
		now := s.state(ctx)
		wait := s.to.every()
		if changed := !known || now != told; changed || wait > 0 || failed > 0 {
			err := s.tell(ctx, now, changed || failed > 0)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				failed = min(max(2*failed, firstPause), mostPause)
				wait = failed
				if said != err.Error() { // once for each reason
					said = err.Error()
					s.cfg.Log.Warn("the server could not be registered; it is tried again", "with", s.cfg.Stanza.Type, "error", err)
				}
			default:
				if said != "" {
					s.cfg.Log.Info("the server is registered", "with", s.cfg.Stanza.Type)
				}
				known, told, failed, said = true, now, 0, ""
			}
		}
		if !now.Initialised && (wait == 0 || wait > askAgain) {
			wait = askAgain
		}
		if wait > 0 {
			t.Reset(wait)
		} else {
			t.Stop()
		}
	}
}

func (s *Service) state(ctx context.Context) State {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	return s.cfg.State(ctx)
}

func (s *Service) tell(ctx context.Context, now State, changed bool) error {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	return s.to.tell(ctx, now, changed)
}

func (s *Service) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if err := s.to.end(ctx); err != nil {
		s.cfg.Log.Warn("the end of the server could not be told", "with", s.cfg.Stanza.Type, "error", err)
	}
}
