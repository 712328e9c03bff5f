package email_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

const another = "seven lamps over the harbour"

// forgot asks for a link and returns its code.
func (w *world) forgot(t testing.TB, address string) string {
	t.Helper()
	ok(t, w.ForgotPassword(t.Context(), address))
	return codeOf(t, w.mail.letter(t, "reset", strings.ToLower(address)))
}

func TestResetPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		w.session(t, user, 0)
		code := w.forgot(t, "Bob@Example.com")
		for range 10 { // programs that look into mails
			ok(t, w.CheckReset(t.Context(), code))
		}
		w.audit.take()
		if _, err := w.ResetPassword(t.Context(), code, "short"); errs.KindOf(err) != errs.Invalid {
			t.Fatalf("a short password: %v", err)
		}
		got, err := w.ResetPassword(t.Context(), code, another)
		ok(t, err)
		if got.ID != user.ID {
			t.Errorf("reset the password of %+v", got)
		}
		if events := names(w.audit.take()); strings.Join(events, ", ") != "user-password-reset, session-ended" {
			t.Errorf("recorded %v", events)
		}
		w.mail.letter(t, "notice", "bob@example.com")
		if sessions, err := w.directory.Sessions(t.Context(), user.ID); err != nil || len(sessions) != 0 {
			t.Errorf("%d sessions are left, %v", len(sessions), err)
		}
		_, err = w.SignIn(t.Context(), "bob", good)
		reason(t, err, email.WrongPassword)
		_, err = w.SignIn(t.Context(), "bob", another)
		ok(t, err)
	})
}

// A link for a new password is good once, for a while, and while the account is what
// it was.
func TestResetLinksThatAreWorthless(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, w *world, user identity.User, code string) string
		reason string
	}{
		"used": {func(t *testing.T, w *world, _ identity.User, code string) string {
			_, err := w.ResetPassword(t.Context(), code, another)
			ok(t, err)
			return code
		}, email.CodeUnknown},
		"expired": {func(_ *testing.T, w *world, _ identity.User, code string) string {
			w.advance(email.ResetLife)
			return code
		}, email.CodeExpired},
		"replaced by a newer one": {func(t *testing.T, w *world, _ identity.User, code string) string {
			w.forgot(t, "bob@example.com")
			return code
		}, email.CodeUnknown},
		"one character off": {func(_ *testing.T, _ *world, _ identity.User, code string) string {
			return strings.Map(func(r rune) rune { return map[bool]rune{true: 'B', false: 'A'}[r == 'A'] }, code[:1]) + code[1:]
		}, email.CodeUnknown},
		"not a code":      {func(*testing.T, *world, identity.User, string) string { return "x" }, email.CodeUnknown},
		"empty":           {func(*testing.T, *world, identity.User, string) string { return "" }, email.CodeUnknown},
		"with a line end": {func(_ *testing.T, _ *world, _ identity.User, code string) string { return code + "\n" }, email.CodeUnknown},
		"for another purpose": {func(t *testing.T, w *world, user identity.User, _ string) string {
			ok(t, w.ChangeEmail(t.Context(), w.session(t, user, 0), "other@example.com"))
			for _, m := range w.mail.take() {
				if m.Kind == "email" {
					return codeOf(t, m)
				}
			}
			t.Fatal("no link")
			return ""
		}, email.CodeUnknown},
		"after another password": {func(t *testing.T, w *world, user identity.User, code string) string {
			ok(t, w.ChangePassword(t.Context(), w.session(t, user, 0), good, another))
			return code
		}, email.CodeUnknown},
		"after another address": {func(t *testing.T, w *world, user identity.User, code string) string {
			ok(t, w.ChangeEmail(t.Context(), w.session(t, user, 0), "other@example.com"))
			for _, m := range w.mail.take() {
				if m.Kind == "email" {
					ok(t, w.ConfirmEmail(t.Context(), codeOf(t, m)))
				}
			}
			return code
		}, email.CodeUnknown},
		"after the address went to nobody": {func(t *testing.T, w *world, user identity.User, code string) string {
			ok(t, w.db.Conn(t.Context()).Exec("UPDATE identities SET subject = 'else@example.com' WHERE user_id = ?", user.ID).Error)
			return code
		}, email.CodeVoid},
		"of a disabled user": {func(t *testing.T, w *world, user identity.User, code string) string {
			ok(t, w.directory.Disable(t.Context(), identity.Principal{}, user.ID))
			return code
		}, email.CodeVoid},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
			user := w.user(t, "bob")
			code := c.spoil(t, w, user, w.forgot(t, "bob@example.com"))
			w.advance(time.Minute)
			w.audit.take()
			w.mail.take()
			kind(t, w.CheckReset(t.Context(), code), errs.Invalid)
			if events := w.audit.take(); len(events) != 1 || events[0].Name != "user-link-refused" || events[0].Rule != c.reason {
				t.Errorf("recorded %v", names(events))
			}
			release := w.Occupy() // whoever has not the code makes nobody hash
			_, err := w.ResetPassword(t.Context(), code, "eleven green bottles hang")
			release()
			kind(t, err, errs.Invalid)
			if mails := w.mail.take(); len(mails) != 0 {
				t.Errorf("mailed %+v", mails)
			}
			if _, err = w.SignIn(t.Context(), "bob", "eleven green bottles hang"); err == nil {
				t.Error("the password was set")
			}
		})
	}
}

func TestResetLinkUsedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "bob")
		code := w.forgot(t, "bob@example.com")
		passed := together(t, 20, errs.Invalid, func() error {
			_, err := w.ResetPassword(t.Context(), code, another)
			return err
		})
		if passed != 1 {
			t.Errorf("%d of 20 won", passed)
		}
		var codes int64
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM email_codes WHERE kind = 'reset'").Scan(&codes).Error)
		if passed = together(t, 10, errs.Internal, func() error { return w.ForgotPassword(t.Context(), "bob@example.com") }); passed != 10 || codes != 0 {
			t.Errorf("%d of 10 asked again, %d links were left over", passed, codes)
		}
		good := 0
		for _, m := range w.mail.take() {
			if m.Kind == "reset" && w.CheckReset(t.Context(), codeOf(t, m)) == nil {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d links are good at the same time", good)
		}
	})
}

// The recipient is one, and it is the address on file.
func TestResetRecipients(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	w.user(t, "bob")
	for _, address := range []string{
		"bob@example.com,evil@example.com", "bob@example.com;evil@example.com", "bob@example.com evil@example.com", "bob@example.com\ncc:evil@example.com",
		"bob@example.com%0acc:evil@example.com", "bob@exаmple.com", "ｂob@example.com", "bob@evil@example.com", "<bob@example.com>", " bob@example.com", "", "bob",
	} {
		kind(t, w.ForgotPassword(t.Context(), address), errs.Invalid)
	}
	for _, address := range []string{"bob+x@example.com", "b.ob@example.com", "evil@example.com"} {
		ok(t, w.ForgotPassword(t.Context(), address)) // nobody's, and nothing says so
	}
	if mails := w.mail.take(); len(mails) != 0 {
		t.Fatalf("mailed %+v", mails)
	}
	w.forgot(t, "BOB@EXAMPLE.COM")
}

// Whether there is an account cannot be seen.
func TestForgotPasswordTellsNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "bob")
		off := w.user(t, "off")
		ok(t, w.directory.Disable(t.Context(), identity.Principal{}, off.ID))
		_, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ext", Email: "ext@example.com", Identity: identity.Identity{Connector: "github", Subject: "1"}})
		ok(t, err)
		w.audit.take()
		for _, c := range []struct {
			address, event string
			mails          int
		}{
			{"bob@example.com", "user-password-reset-requested", 1},
			{"nobody@example.com", "user-password-reset-requested unknown_account", 0},
			{"ext@example.com", "user-password-reset-requested unknown_account", 0},
			{"off@example.com", "user-password-reset-requested user_disabled", 0},
		} {
			ok(t, w.ForgotPassword(t.Context(), c.address))
			if events := names(w.audit.take()); len(events) != 1 || events[0] != c.event {
				t.Errorf("%s: recorded %v", c.address, events)
			}
			if mails := w.mail.take(); len(mails) != c.mails {
				t.Errorf("%s: mailed %+v", c.address, mails)
			}
			var codes int64 // the same work: a link, good or not
			ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM email_codes WHERE address = ?", c.address).Scan(&codes).Error)
			if codes != 1 {
				t.Errorf("%s: %d links", c.address, codes)
			}
		}
	})
}

// What a reset was asked for does not change what it was refused for.
func TestPasswordLoginOff(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	code, err := w.directory.SetupCode(t.Context())
	ok(t, err)
	w.config.PasswordLogin = false
	w.open(t, cheap)
	_, _, err = w.Setup(t.Context(), code, first, good)
	ok(t, err)
	w.audit.take()
	release := w.Occupy()
	for range 3 {
		_, err = w.SignIn(t.Context(), "admin", good)
		reason(t, err, email.PasswordLoginOff)
	}
	release()
	if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-login-failed password_login_off" {
		t.Errorf("recorded %v", events)
	}
	kind(t, w.ForgotPassword(t.Context(), "ada@example.com"), errs.NotFound)
	kind(t, w.SignUp(t.Context(), email.SignUp{Login: "eve", Email: "eve@example.com", Password: good}), errs.NotFound)
	if w.Settings() != (email.Settings{}) || len(w.mail.take()) != 0 {
		t.Errorf("settings %+v", w.Settings())
	}
}

func TestAdministratorSendsReset(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		admin := w.bootstrap(t)
		user, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "newbie", Email: "newbie@example.com"})
		ok(t, err)
		nameless, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "nameless"})
		ok(t, err)
		w.audit.take()
		kind(t, w.SendReset(t.Context(), admin.Principal(""), nameless.ID), errs.Conflict)
		ok(t, w.SendReset(t.Context(), admin.Principal(""), user.ID))
		if events := w.audit.take(); len(events) != 1 || events[0].Name != "user-password-reset-requested" || events[0].Actor.Login != "admin" {
			t.Errorf("recorded %+v", events)
		}
		_, err = w.ResetPassword(t.Context(), codeOf(t, w.mail.letter(t, "reset", "newbie@example.com")), another)
		ok(t, err)
		_, err = w.SignIn(t.Context(), "newbie@example.com", another)
		ok(t, err)
	})
}
