package email_test

import (
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestChangePassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p, elsewhere := w.session(t, user, 0), w.session(t, user, 0)
		w.audit.take()
		for _, old := range []string{"wrong password", "", good + " "} {
			kind(t, w.ChangePassword(t.Context(), p, old, another), errs.Forbidden)
			if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-login-failed wrong_password" {
				t.Errorf("recorded %v", events)
			}
		}
		kind(t, w.ChangePassword(t.Context(), p, good, "short"), errs.Invalid)
		kind(t, w.ChangePassword(t.Context(), p, good, good), errs.Invalid)
		if _, err := w.SignIn(t.Context(), "bob", good); err != nil {
			t.Fatal(err)
		}
		ok(t, w.ChangePassword(t.Context(), p, good, another))
		w.mail.letter(t, "notice", "bob@example.com")
		if events := names(w.audit.take()); strings.Join(events, " ") != "user-password-changed session-ended" {
			t.Errorf("recorded %v", events)
		}
		sessions, err := w.directory.Sessions(t.Context(), user.ID)
		if err != nil || len(sessions) != 1 || sessions[0].ID != p.SessionID || p.SessionID == elsewhere.SessionID {
			t.Errorf("sessions %+v, %v", sessions, err)
		}
		_, err = w.SignIn(t.Context(), "bob", good)
		reason(t, err, email.WrongPassword)
		_, err = w.SignIn(t.Context(), "bob", another)
		ok(t, err)
	})
}

// The old password cannot be guessed here any faster than where one signs in.
func TestGuessingTheOldPassword(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	p := w.session(t, w.user(t, "bob"), 0)
	judged := 0
	for range 30 {
		switch err := w.ChangePassword(t.Context(), p, "wrong password", another); errs.KindOf(err) {
		case errs.Forbidden:
			judged++
		case errs.Exhausted:
		default:
			t.Fatal(err)
		}
	}
	if judged > email.PerAccount {
		t.Errorf("%d guesses", judged)
	}
	kind(t, w.ChangePassword(t.Context(), p, good, another), errs.Exhausted)
	_, err := w.SignIn(t.Context(), "bob", good)
	kind(t, err, errs.Exhausted)
}

// Whoever signs in with a provider gets a password by a verified address only: another
// one would let them keep somebody else's.
func TestFirstPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ext", Email: "ext@example.com", Identity: identity.Identity{Connector: "github", Subject: "1"}})
		ok(t, err)
		p := w.session(t, user, 0)
		kind(t, w.ChangePassword(t.Context(), p, "", another), errs.Conflict)
		_, err = w.BeginTOTP(t.Context(), p)
		kind(t, err, errs.Conflict)
		ok(t, w.ChangeEmail(t.Context(), p, "ext@example.com"))
		ok(t, w.ConfirmEmail(t.Context(), codeOf(t, w.mail.letter(t, "email", "ext@example.com"))))
		kind(t, w.ChangePassword(t.Context(), p, "x", another), errs.Invalid)
		ok(t, w.ChangePassword(t.Context(), p, "", another))
		_, err = w.SignIn(t.Context(), "ext@example.com", another)
		ok(t, err)
	})
}

// An account of an organization has nothing here.
func TestManagedAccounts(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	p := w.session(t, user, 0)
	ok(t, w.db.Conn(t.Context()).Exec("UPDATE users SET managed_by = 'o' WHERE id = ?", user.ID).Error)
	for name, f := range map[string]func() error{
		"SetPassword":    func() error { return w.SetPassword(t.Context(), identity.Principal{}, user.ID, another) },
		"ChangePassword": func() error { return w.ChangePassword(t.Context(), p, good, another) },
		"ChangeEmail":    func() error { return w.ChangeEmail(t.Context(), p, "other@example.com") },
		"BeginTOTP":      func() error { _, err := w.BeginTOTP(t.Context(), p); return err },
		"BeginPasskey":   func() error { _, _, err := w.BeginPasskey(t.Context(), p); return err },
	} {
		if err := f(); errs.KindOf(err) != errs.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	kind(t, w.SendReset(t.Context(), identity.Principal{}, user.ID), errs.Conflict)
	ok(t, w.ForgotPassword(t.Context(), "bob@example.com"))
	if mails := w.mail.take(); len(mails) != 0 {
		t.Errorf("mailed %+v", mails)
	}
}

func TestChangeEmail(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		w.audit.take()
		ok(t, w.ChangeEmail(t.Context(), p, "New@Example.com"))
		mails := w.mail.take()
		if len(mails) != 2 || mails[0].To != "bob@example.com" || mails[0].Kind != "notice" || mails[1].To != "new@example.com" || mails[1].Kind != "email" {
			t.Fatalf("mailed %+v", mails)
		}
		if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-email-change-requested" {
			t.Errorf("recorded %v", events)
		}
		// Nothing has changed yet.
		got, err := w.directory.User(t.Context(), user.ID)
		ok(t, err)
		if got.Email != "bob@example.com" {
			t.Errorf("the address is %s", got.Email)
		}
		_, err = w.SignIn(t.Context(), "new@example.com", good)
		reason(t, err, email.UnknownAccount)
		w.audit.take()
		code := codeOf(t, mails[1])
		if passed := together(t, 10, errs.Invalid, func() error { return w.ConfirmEmail(t.Context(), code) }); passed != 1 {
			t.Errorf("%d of 10 won", passed)
		}
		w.mail.letter(t, "notice", "bob@example.com")
		for _, name := range []string{"new@example.com", "bob"} {
			_, err = w.SignIn(t.Context(), name, good)
			ok(t, err)
		}
		_, err = w.SignIn(t.Context(), "bob@example.com", good)
		reason(t, err, email.UnknownAccount)
		if sessions, err := w.directory.Sessions(t.Context(), user.ID); err != nil || len(sessions) != 1 {
			t.Errorf("%d sessions, %v", len(sessions), err)
		}
		identities, err := w.directory.Identities(t.Context(), user.ID)
		if err != nil || len(identities) != 1 || identities[0].Subject != "new@example.com" {
			t.Errorf("identities %+v, %v", identities, err)
		}
	})
}

// Whether somebody else has an address is between the two of them.
func TestChangeEmailToSomebodyElses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "eve")
		p := w.session(t, w.user(t, "bob"), 0)
		ok(t, w.ChangeEmail(t.Context(), p, "eve@example.com"))
		mails := w.mail.take()
		if len(mails) != 2 || mails[0].To != "bob@example.com" || mails[1].To != "eve@example.com" || mails[1].Link != "" {
			t.Fatalf("mailed %+v", mails)
		}
		// Somebody gets it between the mail and the click.
		ok(t, w.ChangeEmail(t.Context(), p, "free@example.com"))
		code := codeOf(t, w.mail.take()[1])
		free, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "free", Email: "free@example.com"})
		ok(t, err)
		ok(t, w.SetPassword(t.Context(), identity.Principal{}, free.ID, good))
		kind(t, w.ConfirmEmail(t.Context(), code), errs.Conflict)
		_, err = w.SignIn(t.Context(), "bob@example.com", good)
		ok(t, err)
	})
}

// A link to a new address that somebody else has asked for dies with the password.
func TestNewPasswordEndsAChangeOfAddress(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	ok(t, w.ChangeEmail(t.Context(), w.session(t, user, 0), "evil@example.com"))
	code := codeOf(t, w.mail.take()[1])
	_, err := w.ResetPassword(t.Context(), w.forgot(t, "bob@example.com"), another)
	ok(t, err)
	kind(t, w.ConfirmEmail(t.Context(), code), errs.Invalid)
}

// A link to a new address is of the account as it was.
func TestChangedAccountsEndAChangeOfAddress(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world, user identity.User) error{
		"another address": func(t *testing.T, w *world, user identity.User) error {
			return w.directory.SetEmail(t.Context(), identity.Principal{}, user.ID, "corp@example.com", true)
		},
		"disabled": func(t *testing.T, w *world, user identity.User) error {
			return w.directory.Disable(t.Context(), identity.Principal{}, user.ID)
		},
	} {
		w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
		user := w.user(t, "bob")
		ok(t, w.ChangeEmail(t.Context(), w.session(t, user, 0), "evil@example.com"))
		code := codeOf(t, w.mail.take()[1])
		ok(t, change(t, w, user))
		if err := w.ConfirmEmail(t.Context(), code); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
