// Package codeflow is what those connectors share that sign people in with OAuth's
// authorization code flow and then ask the provider's API who they are: how a flow
// begins and ends, and what of a provider's later answers means that somebody is let
// in no more.
package codeflow

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/authcode"
	"github.com/ipuka/ipuka/internal/errs"
)

// Flow is the code flow of one connector. It is safe for concurrent use when Read is.
type Flow struct {
	Connector string // the instance's name
	Provider  *authcode.Provider
	// Scope is the reason that Read refuses with when the application may not read what
	// is needed.
	Scope string
	// Read returns the account that a token is for. The error is a *identity.Refusal, or
	// errs.Unavailable.
	Read func(ctx context.Context, token authcode.Token) (identity.External, error)
}

// patience bounds all calls for one person.
const patience = 20 * time.Second

// Begin returns where the browser goes, with the provider's own parameters.
func (f Flow) Begin(of identity.Flow, parameters url.Values) (identity.Redirect, error) {
	to, err := f.Provider.Begin(flow(of), parameters)
	return identity.Redirect{URL: to}, err
}

func flow(f identity.Flow) authcode.Flow {
	return authcode.Flow{State: f.State, Verifier: f.Verifier, Callback: f.Callback, Expires: f.Expires}
}

// Finish is the Finish of an [identity.Connector].
func (f Flow) Finish(ctx context.Context, of identity.Flow, r identity.Response) (identity.External, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token, err := f.Provider.Finish(ctx, flow(of), r.Values)
	if refused := (*authcode.Refused)(nil); errors.As(err, &refused) {
		return identity.External{}, Refuse(f.Connector, refused.Reason, refused.Detail)
	} else if err != nil {
		return identity.External{}, err
	}
	return f.Read(ctx, token)
}

// Refuse returns the refusal of a sign-in at a connector.
func Refuse(connector, reason, detail string) *identity.Refusal {
	refusal := identity.Refuse(reason, identity.Principal{Connector: connector}, "the sign-in did not work")
	refusal.Detail = detail
	return refusal
}

// Recheck is the Recheck of an [identity.Connector]. A token that is about to expire is
// renewed; then the External has a new Credential, even beside an errs.Unavailable, and
// the old one is worthless.
func (f Flow) Recheck(ctx context.Context, subject string, credential []byte) (identity.External, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	old, err := authcode.ParseToken(credential)
	if err != nil {
		return identity.External{}, err
	}
	token, err := f.Provider.Refresh(ctx, old)
	if errors.Is(err, authcode.ErrRevoked) {
		return identity.External{}, identity.ErrWithdrawn
	} else if err != nil {
		return identity.External{}, err
	}
	x, err := f.Read(ctx, token)
	switch refused := (*identity.Refusal)(nil); {
	case err == nil && x.Subject != subject:
		return identity.External{}, identity.ErrWithdrawn
	case err == nil:
		return x, nil
	case errors.As(err, &refused) && refused.Reason == f.Scope:
		// What the application may do is not the person's doing.
		err = errs.Errorf(errs.Unavailable, "%s", refused.Detail)
	case errors.As(err, &refused):
		return identity.External{}, fmt.Errorf("%w: %s", identity.ErrWithdrawn, refused.Reason)
	}
	if token.Access != old.Access {
		return identity.External{Credential: token.Credential()}, err
	}
	return identity.External{}, err
}
