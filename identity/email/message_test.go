package email_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

// An invite names the organization and who sent it by what nobody chooses freely.
func TestSendInvite(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	invite := identity.Invite{
		Organization: identity.Organization{Login: "acme", Name: "You have won\nhttps://evil.example.com"}, Email: "New@Example.com",
		SentBy: identity.User{Login: "ada", Name: "click https://evil.example.com"}, Expires: w.now().Add(identity.InviteLife),
	}
	ok(t, w.SendInvite(t.Context(), invite, "s-e_c"))
	m := w.mail.letter(t, "invite", "new@example.com")
	if m.Link != "https://ipuka.example.com/invite?code=s-e_c" || !m.Expires.Equal(invite.Expires) || strings.Contains(m.Text+m.Subject, "evil") || !strings.Contains(m.Text, "ada") || !strings.Contains(m.Subject, "acme") {
		t.Errorf("mailed %+v", m)
	}
	for _, address := range []string{"", "a@example.com,b@example.com", "a@example.com\nBcc: b@example.com"} {
		invite.Email = address
		kind(t, w.SendInvite(t.Context(), invite, "s"), errs.Invalid)
	}
	invite.Email, invite.Organization = "a@example.com", identity.Organization{}
	kind(t, w.SendInvite(t.Context(), invite, "s"), errs.Invalid)
}

// What cannot be mailed does not happen.
func TestNothingHappensWithoutItsMail(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		enrolment, err := w.BeginTOTP(t.Context(), p)
		ok(t, err)
		code := w.forgot(t, "bob@example.com")
		w.audit.take()
		w.mail.fail = errs.Errorf(errs.Unavailable, "the outbox is full")
		for name, f := range map[string]func() error{
			"SignUp":         func() error { return w.SignUp(t.Context(), eve) },
			"ForgotPassword": func() error { return w.ForgotPassword(t.Context(), "bob@example.com") },
			"ResetPassword":  func() error { _, err := w.ResetPassword(t.Context(), code, another); return err },
			"ChangePassword": func() error { return w.ChangePassword(t.Context(), p, good, another) },
			"ChangeEmail":    func() error { return w.ChangeEmail(t.Context(), p, "other@example.com") },
			"ConfirmTOTP": func() error {
				_, err := w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, app{w, enrolment.Secret}.code(t, 0))
				return err
			},
			"RemoveFactors": func() error { return w.RemoveFactors(t.Context(), identity.Principal{}, user.ID) },
		} {
			if err := f(); errs.KindOf(err) != errs.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.mail.fail = nil
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors != (email.Factors{Password: true}) {
			t.Errorf("%+v, %v", factors, err)
		}
		_, err = w.SignIn(t.Context(), "bob", good)
		ok(t, err)
		ok(t, w.CheckReset(t.Context(), code))
		if sessions, err := w.directory.Sessions(t.Context(), user.ID); err != nil || len(sessions) != 1 {
			t.Errorf("%d sessions, %v", len(sessions), err)
		}
	})
}

// A connector that is told less does less, and says so.
func TestWithoutMail(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	p := w.session(t, user, 0)
	w.config.Mail, w.config.Box, w.config.ConsoleURL = nil, nil, ""
	w.open(t, cheap)
	for name, f := range map[string]func() error{
		"SignUp":         func() error { return w.SignUp(t.Context(), eve) },
		"CheckSignUp":    func() error { _, err := w.CheckSignUp(t.Context(), "x"); return err },
		"ForgotPassword": func() error { return w.ForgotPassword(t.Context(), "bob@example.com") },
		"CheckReset":     func() error { return w.CheckReset(t.Context(), "x") },
		"ChangeEmail":    func() error { return w.ChangeEmail(t.Context(), p, "other@example.com") },
		"ConfirmEmail":   func() error { return w.ConfirmEmail(t.Context(), "x") },
		"BeginTOTP":      func() error { _, err := w.BeginTOTP(t.Context(), p); return err },
		"CheckTOTP":      func() error { return w.CheckTOTP(t.Context(), user.ID, "123456") },
		"SendInvite":     func() error { return w.SendInvite(t.Context(), identity.Invite{Email: "a@example.com"}, "x") },
		"SendReset":      func() error { return w.SendReset(t.Context(), p, user.ID) },
	} {
		if err := f(); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok(t, w.ChangePassword(t.Context(), p, good, another))
	_, err := w.SignIn(t.Context(), "bob", another)
	ok(t, err)
}

// Codes and secrets are in mails, or shown once, and in no table, event or error.
func TestSecretsAreNowhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		var secrets, texts []string
		enrolment, err := w.BeginTOTP(t.Context(), p)
		ok(t, err)
		a := app{w, enrolment.Secret}
		codes, err := w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.code(t, 0))
		ok(t, err)
		secrets = append(append(secrets, enrolment.Secret), codes...)
		for _, code := range codes {
			secrets = append(secrets, strings.ToUpper(strings.ReplaceAll(code, "-", "")))
		}
		w.mail.take()
		ok(t, w.SignUp(t.Context(), email.SignUp{Login: "canary", Name: "Canary Name", Email: "canary@example.com", Password: "the canary sings at dawn"}))
		secrets = append(secrets, codeOf(t, w.mail.letter(t, "sign-up", "canary@example.com")), "the canary sings", "$argon2id", "Canary Name")
		secrets = append(secrets, w.forgot(t, "bob@example.com"))
		texts = append(texts, fmt.Sprint(w.CheckTOTP(t.Context(), user.ID, codes[0])))
		for _, code := range []string{"111111", codes[0] + "x", codes[1]} {
			texts = append(texts, fmt.Sprint(w.UseRecoveryCode(t.Context(), user.ID, code)))
		}
		texts = append(texts, fmt.Sprint(w.CheckReset(t.Context(), secrets[len(secrets)-1]+"x")))
		for _, e := range w.audit.take() {
			texts = append(texts, fmt.Sprintf("%+v", e))
		}
		for table, columns := range map[string]string{
			"email_codes": "hash, slot, kind, user_id, address, payload", "email_limits": "name", "totp": "user_id, secret", "recovery_codes": "user_id, hash",
		} {
			rows, err := w.db.Reader(t.Context()).Raw("SELECT " + columns + " FROM " + table).Rows()
			ok(t, err)
			values := make([]any, strings.Count(columns, ",")+1)
			for i := range values {
				values[i] = new([]byte)
			}
			found := 0
			for ; rows.Next(); found++ {
				ok(t, rows.Scan(values...))
				for _, value := range values {
					texts = append(texts, string(*value.(*[]byte)))
				}
			}
			ok(t, rows.Err())
			ok(t, rows.Close())
			if found == 0 {
				t.Errorf("nothing is in %s", table)
			}
		}
		all := strings.Join(texts, "\n")
		if !strings.Contains(all, "user-recovery-code-used") || !strings.Contains(all, "canary@example.com") {
			t.Fatal("the search looks in the wrong place")
		}
		for _, secret := range secrets {
			if strings.Contains(all, secret) {
				t.Errorf("%q is somewhere", secret)
			}
		}
	})
}

// Sign-ins that fail cost one hash, whatever there is.
func TestSignInsCostOneHash(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	w.user(t, "bob")
	off := w.user(t, "off")
	ok(t, w.directory.Disable(t.Context(), identity.Principal{}, off.ID))
	_, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ext", Email: "ext@example.com", Identity: identity.Identity{Connector: "github", Subject: "1"}})
	ok(t, err)
	for _, name := range []string{"bob", "bob@example.com", "off", "ext", "nobody", "nobody@example.com", "not a name"} {
		before := w.Hashes()
		_, err := w.SignIn(t.Context(), name, "wrong password")
		kind(t, err, errs.Unauthenticated)
		if n := w.Hashes() - before; n != 1 {
			t.Errorf("%s: %d hashes", name, n)
		}
	}
}

// BenchmarkSignIn measures what one core does at the cost that is the default.
func BenchmarkSignIn(b *testing.B) {
	w := newWorld(b, databasetest.SQLite(b, migrations...), email.DefaultCost)
	_, _, err := w.Bootstrap(b.Context(), first, good)
	ok(b, err)
	ctx := from(b.Context(), "192.0.2.1")
	began := time.Now()
	for b.Loop() {
		_, err := w.SignIn(ctx, "admin", good)
		ok(b, err)
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "times/s")
}

func BenchmarkCheckTOTP(b *testing.B) {
	w := newWorld(b, databasetest.SQLite(b, migrations...), cheap)
	user, _, err := w.Bootstrap(b.Context(), first, good)
	ok(b, err)
	a, _ := w.enrol(b, user)
	for b.Loop() {
		ok(b, w.CheckTOTP(b.Context(), user.ID, a.code(b, 0)))
		w.advance(30 * time.Second)
	}
}
