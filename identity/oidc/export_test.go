package oidc

import "context"

// The internals that the tests drive.

// Verify judges an ID token without a flow.
func (c *Connector) Verify(ctx context.Context, raw, accessToken string) (map[string]any, error) {
	return c.verify(ctx, raw, accessToken)
}

// Admit judges claims as if they were verified.
func (c *Connector) Admit(all map[string]any) error { return c.refuse(c.admit(all)) }

var (
	DomainOf = domainOf
	Shown    = shown
)
