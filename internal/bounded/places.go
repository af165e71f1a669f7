package bounded

import (
	"context"
	"errors"
	"sync"
)

// Places are where work of many owners is done, so much at a time, and so much of one
// owner's: the work of one leaves room for that of others. What it remembers of an
// owner goes with the last of their work. Safe for concurrent use.
type Places struct {
	all  chan struct{} // holds one value for each place that is taken
	each int

	mu     sync.Mutex
	owners map[string]*owner // who has places or waits for one; guarded by mu
}

type owner struct {
	taken chan struct{}
	in    int // places and who waits; guarded by the Places' mu
}

// ErrDone says that what Take was told to end with has ended.
var ErrDone = errors.New("the server is sealed, or hands over")

// NewPlaces makes places for so much work, of which one owner's takes each at most.
func NewPlaces(each, all int) *Places {
	return &Places{all: make(chan struct{}, all), each: each, owners: map[string]*owner{}}
}

// Try takes a place, if there is one; leave must be called when the work is over.
func (p *Places) Try(name string) (leave func(), ok bool) {
	o := p.enter(name)
	select {
	case o.taken <- struct{}{}:
		select {
		case p.all <- struct{}{}:
			return p.leaver(name, o), true
		default:
			<-o.taken
		}
	default:
	}
	p.exit(name, o)
	return nil, false
}

// Take waits for a place; leave must be called when the work is over. The error is
// ctx's cause, or ErrDone when done is closed before.
func (p *Places) Take(ctx context.Context, done <-chan struct{}, name string) (leave func(), err error) {
	o := p.enter(name)
	if err = wait(ctx, done, o.taken); err == nil {
		if err = wait(ctx, done, p.all); err == nil {
			return p.leaver(name, o), nil
		}
		<-o.taken
	}
	p.exit(name, o)
	return nil, err
}

// Taken counts the places that are taken, and the owners who have some or wait.
func (p *Places) Taken() (places, owners int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all), len(p.owners)
}

func wait(ctx context.Context, done <-chan struct{}, place chan<- struct{}) error {
	select {
	case place <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
		return ErrDone
	}
}

func (p *Places) leaver(name string, o *owner) func() {
	return func() {
		<-p.all
		<-o.taken
		p.exit(name, o)
	}
}

func (p *Places) enter(name string) *owner {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[name]
	if o == nil {
		o = &owner{taken: make(chan struct{}, p.each)}
		p.owners[name] = o
	}
	o.in++
	return o
}

func (p *Places) exit(name string, o *owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.in--; o.in == 0 {
		delete(p.owners, name)
	}
}
