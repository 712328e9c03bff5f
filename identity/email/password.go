package email

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// The length of a password, in characters after normalisation (NFC).
const (
	MinPassword = 12
	MaxPassword = 256
)

// maxPasswordBytes bounds what is normalised at all.
const maxPasswordBytes = 8 << 10

// ValidPassword returns nil when password may be the password of a user with a login
// and an e-mail address, and otherwise an errs.Invalid that says why not.
func ValidPassword(password, login, address string) error {
	text, err := normalize(password)
	if err != nil {
		return err
	}
	if n := utf8.RuneCountInString(text); n < MinPassword || n > MaxPassword {
		return errs.Errorf(errs.Invalid, "a password has %d to %d characters", MinPassword, MaxPassword)
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errs.Errorf(errs.Invalid, "a password has no control characters, such as line breaks")
	}
	bare := strings.TrimSpace(text)
	if bare == "" {
		return errs.Errorf(errs.Invalid, "a password is more than spaces")
	}
	if strings.EqualFold(bare, login) || strings.EqualFold(bare, address) {
		return errs.Errorf(errs.Invalid, "the password must differ from the login and the e-mail address")
	}
	if weak(text, ownNames(login, address)...) {
		return errs.Errorf(errs.Invalid, "the password is too easy to guess: it is made of common words, years, repetitions, runs along the keyboard, or of the account's own names. A few unrelated words are a good one")
	}
	return nil
}

// normalize returns the one form of a password that is hashed, so that keyboards
// that compose letters differently agree (NIST SP 800-63B §5.1.1.2).
func normalize(password string) (string, error) {
	if len(password) > maxPasswordBytes || !utf8.ValidString(password) {
		return "", errs.Errorf(errs.Invalid, "a password has %d to %d characters", MinPassword, MaxPassword)
	}
	return norm.NFC.String(password), nil
}

// SetPassword gives a user a password, the first or a new one, and ends all of the
// user's sessions. The caller has made sure that actor may. A user who could not sign
// in by an e-mail address before can from then on, by the address on file; an address
// that somebody else signs in with is errs.Conflict. An account that an organization
// manages has no password (errs.Forbidden). The user is told by mail.
func (c *Connector) SetPassword(ctx context.Context, actor identity.Principal, userID, password string) error {
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return err
	}
	encoded, err := c.newPassword(ctx, user, password)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		if err := c.replacePassword(ctx, actor, user, encoded, "user-password-changed"); err != nil {
			return err
		}
		return c.directory.EndSessions(ctx, actor, userID)
	})
}

// newPassword returns the hash of a password that user may have.
func (c *Connector) newPassword(ctx context.Context, user identity.User, password string) (string, error) {
	if user.ManagedBy != "" {
		return "", errManaged()
	}
	if err := ValidPassword(password, user.Login, user.Email); err != nil {
		return "", err
	}
	return c.hash(ctx, password)
}

func errManaged() error {
	return errs.Errorf(errs.Forbidden, "the account belongs to an organization, which decides how its owner signs in")
}

// replacePassword stores a password within the transaction of ctx. All links that were
// mailed to the user before are worthless then: whoever asked for them may be the
// reason for the new password.
func (c *Connector) replacePassword(ctx context.Context, actor identity.Principal, user identity.User, encoded, event string) error {
	address, err := c.signInAddress(ctx, user.ID)
	if err != nil {
		return err
	}
	if address == "" && user.Email != "" {
		i := identity.Identity{Connector: identity.EmailConnector, Subject: user.Email}
		if err := c.directory.AddIdentity(ctx, actor, user.ID, i); err != nil {
			return err
		}
	}
	if err := c.store.setPassword(ctx, user.ID, encoded); err != nil {
		return err
	}
	if err := c.store.dropCodes(ctx, user.ID); err != nil {
		return err
	}
	if err := c.did(ctx, actor, event, user, "Changed the password of "+user.Login); err != nil {
		return err
	}
	return c.notify(ctx, user, user.Email, "Your password was changed", "The password of your account was changed. All browsers that were signed in before are signed out, apart from the one that changed it.")
}

// signInAddress returns the address that a user signs in with; "" for none.
func (c *Connector) signInAddress(ctx context.Context, userID string) (string, error) {
	identities, err := c.directory.Identities(ctx, userID)
	if err != nil {
		return "", err
	}
	for _, i := range identities {
		if i.Connector == identity.EmailConnector {
			return i.Subject, nil
		}
	}
	return "", nil
}

// did puts on record that actor has changed something of user's account.
func (c *Connector) did(ctx context.Context, actor identity.Principal, name string, user identity.User, description string) error {
	e := actor.Did(audit.Event{Name: name, Object: "user:" + user.Login, Description: description, Decision: audit.Allow})
	_, err := c.audit.AppendDone(ctx, audit.Site, e, audit.Outcome{Result: audit.Succeeded})
	return err
}

// ChangePassword gives p's user another password and ends the user's other sessions.
// Both the old password, which counts as a try to sign in, and a session that began
// lately ([identity.Directory.RequireFresh]) are needed. A user without a password,
// who signs in with a provider, gives "" for the old one and needs a verified address.
func (c *Connector) ChangePassword(ctx context.Context, p identity.Principal, old, password string) error {
	if !c.settings.PasswordLogin {
		return errs.Errorf(errs.Forbidden, "nobody signs in by a password here")
	}
	user, err := c.fresh(ctx, p)
	if err != nil {
		return err
	}
	before, err := c.proveOld(ctx, user, old)
	if err != nil {
		return err
	}
	if old != "" && old == password {
		return errs.Errorf(errs.Invalid, "the new password must differ from the old one")
	}
	encoded, err := c.newPassword(ctx, user, password)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		now, err := c.store.password(ctx, user.ID)
		if err != nil {
			return err
		}
		if now != before {
			return errs.Errorf(errs.Conflict, "the password was changed by somebody else at the same moment")
		}
		if err := c.replacePassword(ctx, p, user, encoded, "user-password-changed"); err != nil {
			return err
		}
		return c.endOthers(ctx, p)
	})
}

// fresh returns p's user, who has signed in lately and whose account is nobody's else.
func (c *Connector) fresh(ctx context.Context, p identity.Principal) (identity.User, error) {
	if err := c.directory.RequireFresh(ctx, p); err != nil {
		return identity.User{}, err
	}
	user, err := c.directory.User(ctx, p.UserID)
	if err != nil {
		return identity.User{}, err
	}
	if user.ManagedBy != "" {
		return identity.User{}, errManaged()
	}
	return user, nil
}

// proveOld returns the hash on file of a user who knows the password that it is of.
func (c *Connector) proveOld(ctx context.Context, user identity.User, old string) (string, error) {
	encoded, err := c.store.password(ctx, user.ID)
	switch {
	case err != nil:
		return "", err
	case encoded == "" && old != "":
		return "", errs.Errorf(errs.Invalid, "the account has no password yet, leave the old one empty")
	case encoded == "" && (user.Email == "" || !user.EmailVerified):
		return "", errs.Errorf(errs.Conflict, "a password needs a verified e-mail address first")
	case encoded == "":
		return "", nil
	}
	found := candidate{name: user.Login, user: user, encoded: encoded}
	if found.hash, err = parseHash(encoded); err != nil {
		return "", err
	}
	text, err := normalize(old)
	if err != nil {
		return "", err
	}
	tried, err := c.judge(ctx, &found, text)
	if err != nil {
		return "", err
	}
	if found.reason != "" {
		if err := c.refused(ctx, found.reason, user, 1); err != nil {
			return "", err
		}
		return "", errs.Errorf(errs.Forbidden, "the old password is wrong")
	}
	tried.attempt.forget()
	return encoded, nil
}

// endOthers ends the sessions of p's user apart from p's own.
func (c *Connector) endOthers(ctx context.Context, p identity.Principal) error {
	sessions, err := c.directory.Sessions(ctx, p.UserID)
	if err != nil {
		return err
	}
	for _, s := range sessions { // those of one person: a handful
		if s.ID == p.SessionID {
			continue
		}
		if err := c.directory.RevokeSession(ctx, p, s.ID); err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
	}
	return nil
}

// hash returns the encoded hash of a valid password.
func (c *Connector) hash(ctx context.Context, password string) (string, error) {
	text, err := normalize(password)
	if err != nil {
		return "", err
	}
	var h hash
	if err := c.pool.run(ctx, func() { h = c.pool.cost.hash(text) }); err != nil {
		return "", err
	}
	return h.String(), nil
}
