package server

import (
	"context"

	"arca/internal/config"
	"arca/internal/server/registration"
	"arca/internal/version"
)

// openRegistration reads the stanza service_registration; without one, storage in Consul registers there. Nothing is
// registered before register.
func (n *node) openRegistration() error {
	stanza := n.cfg.Registration
	if s := n.cfg.Storage; stanza == nil && s != nil && s.Type == "consul" {
		stanza = &config.Registration{Pos: s.Pos, Type: s.Type, Options: s.Options}
	}
	s, err := registration.New(registration.Config{
		Stanza: stanza, Getenv: n.env.Getenv, APIAddr: n.apiAddr(), Version: version.Compat(n.cfg.CompatVersion),
		State: n.state, Log: n.log.Named("registration"),
	})
	if s != nil {
		n.registered.Store(s)
	}
	return err
}

// changed is told of every change of the node's state, also before there is a registration.
func (n *node) changed() {
	if s := n.registered.Load(); s != nil {
		s.Changed()
	}
}

func (n *node) state(ctx context.Context) registration.State {
	if a := n.core.Active(); a != nil {
		return registration.State{Initialised: true, Active: a.Leads()}
	}
	initialised, err := n.core.SealManager().Initialised(ctx)
	return registration.State{Initialised: initialised && err == nil, Sealed: true}
}

// register tells where the node is and how it is, until stop is called; what that returns is closed when the last word was said, or cannot be.
func (n *node) register() (stop func() <-chan struct{}) {
	done := make(chan struct{})
	s := n.registered.Load()
	if s == nil {
		close(done)
		return func() <-chan struct{} { return done }
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return func() <-chan struct{} { cancel(); return done }
}
