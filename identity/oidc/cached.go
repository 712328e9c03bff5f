package oidc

import (
	"context"
	"sync"
	"time"
)

const (
	freshFor  = time.Hour        // for which what a provider publishes is not asked for again
	staleFor  = 24 * time.Hour   // for which it is used when the provider does not answer
	askEvery  = 10 * time.Second // at most, whatever happens
	fetchTime = 10 * time.Second
)

// cached is something that a provider publishes. It is fetched when it is needed, by
// one at a time, and not for the one who needs it first: that one's going away does
// not harm those who wait for the same.
type cached[V any] struct {
	fetch func(context.Context) (V, error)
	now   func() time.Time

	mu      sync.Mutex
	value   V
	fetched time.Time     // when value was; zero: never
	asked   time.Time     // when the provider was
	err     error         // what came of that
	flight  chan struct{} // closed when the fetch under way is over; nil: there is none
}

// get returns what is known, when it is known well enough, and asks otherwise.
func (c *cached[V]) get(ctx context.Context) (V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age() < freshFor || c.flight == nil && c.justAsked() {
		return c.answer()
	}
	if err := c.ask(ctx); err != nil {
		return *new(V), err
	}
	return c.answer()
}

// renew asks, unless that was done within askEvery, and returns what came of it.
func (c *cached[V]) renew(ctx context.Context) (V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil || !c.justAsked() {
		if err := c.ask(ctx); err != nil {
			return *new(V), err
		}
	}
	return c.value, c.err
}

func (c *cached[V]) age() time.Duration {
	if c.fetched.IsZero() {
		return staleFor
	}
	return c.now().Sub(c.fetched)
}

func (c *cached[V]) justAsked() bool { return !c.asked.IsZero() && c.now().Sub(c.asked) < askEvery }

func (c *cached[V]) answer() (V, error) {
	if c.age() < staleFor {
		return c.value, nil
	}
	return *new(V), c.err
}

// ask joins the fetch under way, or begins one, and waits for its end without the lock.
func (c *cached[V]) ask(ctx context.Context) error {
	if c.flight == nil {
		flight := make(chan struct{})
		c.flight, c.asked = flight, c.now()
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
			defer cancel()
			value, err := c.fetch(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err = err; err == nil {
				c.value, c.fetched = value, c.now()
			}
			c.flight = nil
			close(flight)
		}()
	}
	flight := c.flight
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err(), "the provider did not answer in time")
	}
}
