package email

import (
	"context"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// Factors are the means that a user has to sign in here.
type Factors struct {
	Password      bool
	TOTP          bool // codes of an authenticator app are asked for after the password
	Passkeys      int
	RecoveryCodes int // how many are left
}

// MFA reports whether a right password is not enough.
func (f Factors) MFA() bool { return f.TOTP }

// Factors returns what a user signs in with here. It is one query.
func (c *Connector) Factors(ctx context.Context, userID string) (Factors, error) {
	return c.store.factors(ctx, userID)
}

// RemoveFactors takes from a user the authenticator app, the recovery codes and all
// passkeys, and ends the user's sessions: for somebody who has lost them. The caller
// has made sure that actor may. The user is told by mail.
func (c *Connector) RemoveFactors(ctx context.Context, actor identity.Principal, userID string) error {
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := c.store.dropTOTP(ctx, userID); err != nil {
			return err
		}
		if err := c.store.dropPasskeys(ctx, userID); err != nil {
			return err
		}
		if err := c.did(ctx, actor, "user-mfa-reset", user, "Removed the second factors and passkeys of "+user.Login); err != nil {
			return err
		}
		err := c.notify(ctx, user, user.Email, "Your second factors were removed", "An administrator has removed the authenticator app, the recovery codes and the passkeys of your account.")
		if err != nil {
			return err
		}
		return c.directory.EndSessions(ctx, actor, userID)
	})
}

// sealable is errs.Unavailable while there is nothing to seal secrets with.
func (c *Connector) sealable() error {
	if c.box == nil {
		return errs.Errorf(errs.Unavailable, "second factors are not set up here: ask the administrator")
	}
	return nil
}
