package email

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// SignUp is what somebody who wants an account says about it.
type SignUp struct {
	Login, Name, Email string
	Password           string
	// Invite is the secret of an invite that they follow: it lets them sign up where
	// nobody else does.
	Invite string
}

// pending is a sign-up whose address is not confirmed yet. It is sealed in its code.
type pending struct {
	Login string `json:"login"`
	Name  string `json:"name"`
	Hash  string `json:"hash"`
}

// SignUp mails a link to whoever wants an account. There is no account before
// [Connector.ConfirmSignUp], so nobody has one with an address that is not theirs.
//
// The answer is the same, after the same work, whether somebody signs in with the
// address or not: the mail says so, and not we. It is the same, too, when too many
// mails were asked for, and none is sent. errs.Invalid says what is wrong with s, and
// errs.NotFound that nobody signs up here.
func (c *Connector) SignUp(ctx context.Context, s SignUp) error {
	if err := c.maySignUp(ctx, s.Invite); err != nil {
		return err
	}
	if err := identity.ValidLogin(s.Login); err != nil {
		return err
	}
	address, err := identity.CanonicalEmail(s.Email)
	if err != nil {
		return err
	}
	if err := ValidPassword(s.Password, s.Login, address); err != nil {
		return err
	}
	if may, err := c.mayMail(ctx, address); err != nil || !may {
		return err
	}
	encoded, err := c.hash(ctx, s.Password)
	if err != nil {
		return c.overloaded(ctx, err)
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		owner, err := c.directory.UserByEmail(ctx, address)
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
		kind := kindSignUp
		if owner.ID != "" {
			kind = kindNone
		}
		code, expires, err := c.newCode(ctx, kind, "", address, ConfirmLife, pending{Login: s.Login, Name: s.Name, Hash: encoded})
		if err != nil {
			return err
		}
		if owner.ID != "" {
			return c.sendExists(ctx, owner, address)
		}
		return c.sendSignUp(ctx, address, s.Login, code, expires)
	})
}

// maySignUp is errs.NotFound where signing up is off, but for whoever has an invite.
func (c *Connector) maySignUp(ctx context.Context, invite string) error {
	closed := errs.Errorf(errs.NotFound, "nobody signs up here, ask an administrator for an account")
	if !c.settings.SignUp {
		if !c.settings.PasswordLogin || invite == "" {
			return closed
		}
		if _, err := c.directory.InviteBySecret(ctx, invite); errs.KindOf(err) == errs.NotFound {
			return closed
		} else if err != nil {
			return err
		}
	}
	return c.complete()
}

// CheckSignUp returns what a pending sign-up asks for, without the password, for the
// page that asks whether to confirm it. It uses nothing up.
func (c *Connector) CheckSignUp(ctx context.Context, code string) (SignUp, error) {
	row, p, err := c.pending(ctx, code)
	return SignUp{Login: p.Login, Name: p.Name, Email: row.Address}, err
}

func (c *Connector) pending(ctx context.Context, code string) (row codeRow, p pending, err error) {
	if !c.settings.PasswordLogin {
		return row, p, errs.Errorf(errs.NotFound, "nobody signs in with a password here any more")
	}
	if err := c.complete(); err != nil {
		return row, p, err
	}
	if row, err = c.code(ctx, kindSignUp, code); err != nil {
		return row, p, err
	}
	return row, p, c.openCode(row, &p)
}

// ConfirmSignUp makes the account of a sign-up, with its address verified. A login
// that was taken gets a number at its end. errs.Conflict says that somebody has begun
// to sign in with the address meanwhile, errs.Invalid that the link is worthless.
//
// The password is that of whoever signed up, which need not be whoever followed the
// link. So the caller lets them sign in, rather than signing them in, unless it knows
// that it is the same browser.
func (c *Connector) ConfirmSignUp(ctx context.Context, code string) (identity.User, error) {
	row, p, err := c.pending(ctx, code)
	if err != nil {
		return identity.User{}, err
	}
	for i := 1; ; i++ {
		login := suffixed(p.Login, i)
		user, err := c.createUser(ctx, row, p, login)
		if errs.KindOf(err) == errs.Conflict && i < maxSuffixes {
			if _, err := c.directory.UserByEmail(ctx, row.Address); errs.KindOf(err) == errs.NotFound {
				continue // it was the login
			}
		}
		return user, c.judged(ctx, err)
	}
}

// maxSuffixes is how many logins are tried, the last of them at random.
const maxSuffixes = 12

// suffixed returns a login like login, for the i-th try.
func suffixed(login string, i int) string {
	suffix := ""
	switch {
	case i >= maxSuffixes-2:
		raw := make([]byte, 4)
		_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
		suffix = "-" + hex.EncodeToString(raw)
	case i > 1:
		suffix = "-" + strconv.Itoa(i)
	}
	const maxLogin = 39
	return login[:min(len(login), maxLogin-len(suffix))] + suffix
}

// createUser makes the user of a sign-up in one transaction, which uses the code up.
func (c *Connector) createUser(ctx context.Context, row codeRow, p pending, login string) (user identity.User, err error) {
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		if err := c.take(ctx, row); err != nil {
			return err
		}
		if owner, err := c.directory.UserByEmail(ctx, row.Address); owner.ID != "" || errs.KindOf(err) != errs.NotFound {
			if err == nil {
				err = errs.Errorf(errs.Conflict, "this address has an account already, sign in with it")
			}
			return err
		}
		actor := identity.Principal{Connector: identity.EmailConnector}
		user, err = c.directory.CreateUser(ctx, actor, identity.NewUser{
			Login: login, Name: p.Name, Email: row.Address,
			Identity: identity.Identity{Connector: identity.EmailConnector, Subject: row.Address},
		})
		if err != nil {
			return err
		}
		actor = user.Principal(identity.EmailConnector)
		if err := c.directory.SetEmail(ctx, actor, user.ID, row.Address, true); err != nil {
			return err
		}
		if err := c.store.setPassword(ctx, user.ID, p.Hash); err != nil {
			return err
		}
		if err := c.store.dropSignUps(ctx, row.Address); err != nil {
			return err
		}
		if err := c.did(ctx, actor, "user-signed-up", user, user.Login+" signed up"); err != nil {
			return err
		}
		user, err = c.directory.User(ctx, user.ID)
		return err
	})
	if err != nil {
		return identity.User{}, err
	}
	return user, nil
}

// requested records that somebody asked for a link to set a new password.
func (c *Connector) requested(ctx context.Context, user identity.User, reason string) error {
	e := audit.Event{Name: "user-password-reset-requested", Object: "user", Description: "Asked for a link to reset a password"}
	if user.ID != "" {
		e.Object = "user:" + user.Login
		e.Description = "Asked for a link to reset the password of " + user.Login
	}
	if reason != "" {
		e.Rule = reason
		return c.deny(ctx, e, 1)
	}
	e.Actor, e.Connector, e.Decision = audit.Actor{Kind: audit.Anonymous}, identity.EmailConnector, audit.Allow
	_, err := c.audit.AppendDone(ctx, audit.Site, e, audit.Outcome{Result: audit.Succeeded})
	return err
}
