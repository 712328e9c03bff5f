package email

import (
	"context"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// change is what a link that confirms an address remembers.
type change struct {
	Before string `json:"before"` // the address that it replaces
}

// ChangeEmail mails a link to an address that p's user wants to have, and a notice to
// the one on file. Nothing changes before [Connector.ConfirmEmail]. The session must
// have begun lately. The answer is the same when somebody else signs in with that
// address: the mail says so.
func (c *Connector) ChangeEmail(ctx context.Context, p identity.Principal, address string) error {
	if err := c.complete(); err != nil {
		return err
	}
	user, err := c.fresh(ctx, p)
	if err != nil {
		return err
	}
	if address, err = identity.CanonicalEmail(address); err != nil {
		return err
	}
	if address == user.Email && user.EmailVerified {
		return errs.Errorf(errs.Conflict, "this is the address of the account already")
	}
	may, err := c.mayMail(ctx, address)
	if err != nil {
		return err
	}
	if !may {
		return errs.Errorf(errs.Exhausted, "too many mails were asked for, try again in an hour")
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		owner, err := c.directory.UserByEmail(ctx, address)
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
		if err := c.did(ctx, p, "user-email-change-requested", user, "Asked for another address for "+user.Login); err != nil {
			return err
		}
		if address != user.Email {
			err = c.notify(ctx, user, user.Email, "Your address is about to change", "Somebody, hopefully you, wants the account to have another e-mail address.")
			if err != nil {
				return err
			}
		}
		if owner.ID != "" && owner.ID != user.ID {
			return c.sendTaken(ctx, address)
		}
		code, expires, err := c.newCode(ctx, kindAddress, user.ID, address, ConfirmLife, change{Before: user.Email})
		if err != nil {
			return err
		}
		return c.sendAddress(ctx, user, address, code, expires)
	})
}

// ConfirmEmail makes the address that a link was sent to the user's own, verified. A
// user with a password signs in with it from then on, and no longer with the one
// before. Links that were sent to that one are worthless. errs.Conflict says that
// somebody else has begun to sign in with the address meanwhile.
func (c *Connector) ConfirmEmail(ctx context.Context, code string) error {
	if err := c.complete(); err != nil {
		return err
	}
	row, err := c.code(ctx, kindAddress, code)
	if err != nil {
		return err
	}
	var asked change
	if err := c.openCode(row, &asked); err != nil {
		return err
	}
	return c.judged(ctx, c.db.Tx(ctx, func(ctx context.Context) error {
		if err := c.take(ctx, row); err != nil {
			return err
		}
		user, err := c.directory.User(ctx, row.UserID)
		if err != nil {
			return err
		}
		if user.Email != asked.Before || noReset(user) != "" {
			return voided(CodeVoid)
		}
		actor := user.Principal(identity.EmailConnector)
		if err := c.moveIdentity(ctx, user, row.Address); err != nil {
			return err
		}
		if err := c.directory.SetEmail(ctx, actor, user.ID, row.Address, true); err != nil {
			return err
		}
		if err := c.store.dropCodes(ctx, user.ID); err != nil {
			return err
		}
		if err := c.did(ctx, actor, "user-email-changed", user, "Changed the address of "+user.Login); err != nil {
			return err
		}
		if asked.Before == row.Address {
			return nil
		}
		return c.notify(ctx, user, asked.Before, "Your address was changed", "The account has another e-mail address now. This one no longer belongs to it.")
	}))
}

// moveIdentity lets a user who signs in with an address do so with another one, and no
// longer with the first. The rest of the account, its sessions included, stays.
func (c *Connector) moveIdentity(ctx context.Context, user identity.User, address string) error {
	before, err := c.signInAddress(ctx, user.ID)
	if err != nil || before == "" || before == address {
		return err
	}
	return c.directory.MoveIdentity(ctx, user.ID, identity.Identity{Connector: identity.EmailConnector, Subject: before}, address)
}
