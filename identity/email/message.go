package email

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/mail"
)

// The texts of mails name nobody but by a login, whose grammar leaves no room for a
// message of a stranger's own: display names are not in them.

// noticeLife is how long a mail without a link is worth delivering.
const noticeLife = 3 * 24 * time.Hour

// send sends a mail, with its link, if it has one, above the last of its lines. It
// joins the transaction of ctx.
func (c *Connector) send(ctx context.Context, m mail.Message, lines ...string) error {
	if m.Expires.IsZero() {
		now, err := c.clock(ctx)
		if err != nil {
			return err
		}
		m.Expires = now.Add(noticeLife)
	}
	if m.Link != "" {
		lines = slices.Insert(lines, len(lines)-1, m.Link)
	}
	m.Subject += " (" + c.site + ")"
	m.Text = strings.Join(lines, "\n\n") + "\n"
	return c.mail.Send(ctx, m)
}

// notify tells a user, at an address, that something about the account has changed.
// Without mail, or an address, nobody is told.
func (c *Connector) notify(ctx context.Context, user identity.User, address, subject, text string) error {
	if c.mail == nil || address == "" {
		return nil
	}
	return c.send(ctx, mail.Message{To: address, Subject: subject, Kind: "notice"},
		"This is about your account "+user.Login+" at "+c.site+".", text,
		"If it was not you, set a new password at once and tell your administrator.")
}

func (c *Connector) sendSignUp(ctx context.Context, address, login, code string, expires time.Time) error {
	return c.send(ctx, mail.Message{
		To: address, Subject: "Confirm your address", Kind: "sign-up", Link: c.link("/signup/confirm", code), Expires: expires,
	},
		"Somebody, hopefully you, has asked for an account at "+c.site+" with this e-mail address and the login "+login+".",
		"Follow the link to make the account. It is good once, for 24 hours.",
		"If you have not asked for it, do nothing: without the link there will be no account. Do not follow it, as whoever asked has chosen the password.")
}

func (c *Connector) sendExists(ctx context.Context, user identity.User, address string) error {
	return c.send(ctx, mail.Message{To: address, Subject: "You have an account already", Kind: "account-exists", Link: c.console + "/password/forgot"},
		"Somebody, hopefully you, has asked for an account at "+c.site+" with this e-mail address. You have one already: its login is "+user.Login+".",
		"If you have forgotten its password, follow the link to set another. If you have not asked for anything, do nothing.")
}

func (c *Connector) sendReset(ctx context.Context, user identity.User, address, code string, expires time.Time) error {
	return c.send(ctx, mail.Message{
		To: address, Subject: "Set a new password", Kind: "reset", Link: c.link("/password/reset", code), Expires: expires,
	},
		"Follow the link to set a new password for your account "+user.Login+" at "+c.site+". It is good once, for ten minutes, and only the newest one is.",
		"If you have not asked for it, do nothing: your password stays as it is.")
}

func (c *Connector) sendAddress(ctx context.Context, user identity.User, address, code string, expires time.Time) error {
	return c.send(ctx, mail.Message{
		To: address, Subject: "Confirm your new address", Kind: "email", Link: c.link("/email/confirm", code), Expires: expires,
	},
		"Follow the link to make this the e-mail address of the account "+user.Login+" at "+c.site+". It is good once, for 24 hours.",
		"If you have not asked for it, do nothing: the account keeps the address that it has.")
}

func (c *Connector) sendTaken(ctx context.Context, address string) error {
	return c.send(ctx, mail.Message{To: address, Subject: "This address has an account already", Kind: "address-taken"},
		"Somebody, hopefully you, wants to make this the e-mail address of an account at "+c.site+". Another account signs in with it already, so nothing was changed.",
		"If you have not asked for it, do nothing.")
}

// SendInvite mails the link of an invite to the address that it is for. An invite for
// whoever has the link has no address (errs.Invalid). It joins the transaction of ctx.
func (c *Connector) SendInvite(ctx context.Context, invite identity.Invite, secret string) error {
	if err := c.complete(); err != nil {
		return err
	}
	address, err := identity.CanonicalEmail(invite.Email)
	if err != nil {
		return err
	}
	by := "An administrator"
	if invite.SentBy.Login != "" {
		by = invite.SentBy.Login
	}
	name := invite.Organization.Login
	if name == "" {
		return errs.Errorf(errs.Invalid, "the invite is of no organization")
	}
	return c.send(ctx, mail.Message{
		To: address, Subject: "Join " + name, Kind: "invite", Link: c.link("/invite", secret), Expires: invite.Expires,
	},
		by+" invites you to the organization "+name+" at "+c.site+".",
		"Follow the link to see the invite and to accept it. It is good once, until "+invite.Expires.UTC().Format("2 January 2006, 15:04 MST")+".",
		"If you do not know what this is about, do nothing.")
}
