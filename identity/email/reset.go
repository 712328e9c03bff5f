package email

import (
	"context"
	"slices"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// ForgotPassword mails a link to set a new password to the address of an account,
// which is the one on file whatever was typed. It answers the same whether there is
// such an account or not, and when too many mails were asked for and none is sent. An
// address that is none is errs.Invalid.
func (c *Connector) ForgotPassword(ctx context.Context, address string) error {
	if err := c.signInOff(); err != nil {
		return err
	}
	address, err := identity.CanonicalEmail(address)
	if err != nil {
		return err
	}
	if may, err := c.mayMail(ctx, address); err != nil || !may {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		user, err := c.directory.UserByEmail(ctx, address)
		reason := noReset(user)
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
		if err := c.requested(ctx, user, reason); err != nil {
			return err
		}
		kind, userID := kindReset, user.ID
		if reason != "" {
			kind, userID = kindNone, ""
		}
		code, expires, err := c.newCode(ctx, kind, userID, address, ResetLife, nil)
		if err != nil || reason != "" {
			return err
		}
		return c.sendReset(ctx, user, address, code, expires)
	})
}

// noReset returns why a user cannot have a new password by mail; "" for who can.
func noReset(user identity.User) string {
	switch {
	case user.ID == "":
		return UnknownAccount
	case !user.Disabled.IsZero():
		return AccountDisabled
	case user.ManagedBy != "":
		return "managed_account"
	}
	return ""
}

// SendReset mails a user a link to set a password, the first or a new one. It is how
// an administrator helps somebody: nobody but the user learns the password. The caller
// has made sure that actor may. A user without an address is errs.Conflict.
func (c *Connector) SendReset(ctx context.Context, actor identity.Principal, userID string) error {
	if err := c.signInOff(); err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		user, err := c.directory.User(ctx, userID)
		if err != nil {
			return err
		}
		address, err := c.signInAddress(ctx, userID)
		if err != nil {
			return err
		}
		if address == "" {
			address = user.Email
		}
		if reason := noReset(user); reason != "" || address == "" {
			return errs.Errorf(errs.Conflict, "%s cannot have a password: the account has no address, is disabled or belongs to an organization", user.Login)
		}
		code, expires, err := c.newCode(ctx, kindReset, userID, address, ResetLife, nil)
		if err != nil {
			return err
		}
		err = c.did(ctx, actor, "user-password-reset-requested", user, "Sent a link to reset the password of "+user.Login)
		if err != nil {
			return err
		}
		return c.sendReset(ctx, user, address, code, expires)
	})
}

// CheckReset reports whether a link to set a password is still good, and leaves it as
// it is: programs that look into mails follow links, too.
func (c *Connector) CheckReset(ctx context.Context, code string) error {
	_, _, err := c.reset(ctx, code)
	return err
}

// reset returns the user whom a link lets set a password.
func (c *Connector) reset(ctx context.Context, code string) (codeRow, identity.User, error) {
	if err := c.signInOff(); err != nil {
		return codeRow{}, identity.User{}, err
	}
	row, err := c.code(ctx, kindReset, code)
	if err != nil {
		return row, identity.User{}, err
	}
	user, err := c.resetUser(ctx, row)
	return row, user, c.judged(ctx, err)
}

// resetUser returns the user of a link, unless the account has changed since.
func (c *Connector) resetUser(ctx context.Context, row codeRow) (identity.User, error) {
	user, err := c.directory.User(ctx, row.UserID)
	if err != nil {
		return user, err
	}
	identities, err := c.directory.Identities(ctx, user.ID)
	if err != nil {
		return user, err
	}
	address := identity.Identity{Connector: identity.EmailConnector, Subject: row.Address}
	signsIn := slices.ContainsFunc(identities, func(i identity.Identity) bool { return i.Connector == identity.EmailConnector })
	theirs := slices.Contains(identities, address) || !signsIn && user.Email == row.Address
	if !theirs || noReset(user) != "" {
		return user, voided(CodeVoid)
	}
	return user, nil
}

// ResetPassword gives the user of a link a new password, ends all of the user's
// sessions and uses the link up. It begins no session: the user signs in, and gives the
// second factor if there is one. A worthless link is errs.Invalid, and so is a password
// that cannot be one, which leaves the link good.
func (c *Connector) ResetPassword(ctx context.Context, code, password string) (identity.User, error) {
	row, user, err := c.reset(ctx, code)
	if err != nil {
		return identity.User{}, err
	}
	encoded, err := c.newPassword(ctx, user, password)
	if err != nil {
		return identity.User{}, c.overloaded(ctx, err)
	}
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		if err := c.take(ctx, row); err != nil {
			return err
		}
		if user, err = c.resetUser(ctx, row); err != nil {
			return err
		}
		actor := user.Principal(identity.EmailConnector)
		if err := c.replacePassword(ctx, actor, user, encoded, "user-password-reset"); err != nil {
			return err
		}
		if user.Email == row.Address && !user.EmailVerified { // the link has proved it
			if err := c.directory.SetEmail(ctx, actor, user.ID, user.Email, true); err != nil {
				return err
			}
		}
		return c.directory.EndSessions(ctx, actor, user.ID)
	})
	if err != nil {
		return identity.User{}, c.judged(ctx, err)
	}
	return user, nil
}
