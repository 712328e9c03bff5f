package email_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

var eve = email.SignUp{Login: "Eve", Name: "Eve Adams", Email: "Eve@Example.com", Password: good}

func TestSignUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ok(t, w.SignUp(t.Context(), eve))
		// Nobody has an account with an address that is not confirmed.
		_, err := w.directory.UserByEmail(t.Context(), eve.Email)
		kind(t, err, errs.NotFound)
		_, err = w.SignIn(t.Context(), eve.Email, good)
		reason(t, err, email.UnknownAccount)
		w.audit.take()
		code := codeOf(t, w.mail.letter(t, "sign-up", "eve@example.com"))
		for range 10 {
			asked, err := w.CheckSignUp(t.Context(), code)
			if err != nil || asked != (email.SignUp{Login: "Eve", Name: "Eve Adams", Email: "eve@example.com"}) {
				t.Fatalf("asked for %+v, %v", asked, err)
			}
		}
		user, err := w.ConfirmSignUp(t.Context(), code)
		ok(t, err)
		if user.Login != "Eve" || user.Name != "Eve Adams" || user.Email != "eve@example.com" || user.SiteAdmin {
			t.Errorf("made %+v", user)
		}
		var verified bool
		ok(t, w.db.Reader(t.Context()).Raw("SELECT email_verified FROM users WHERE id = ?", user.ID).Scan(&verified).Error)
		if events := names(w.audit.take()); !verified || len(events) < 2 || events[0] != "user-created" || events[len(events)-1] != "user-signed-up" {
			t.Errorf("recorded %v, verified %v", events, verified)
		}
		_, err = w.SignIn(t.Context(), "eve", good)
		ok(t, err)
		_, err = w.ConfirmSignUp(t.Context(), code)
		kind(t, err, errs.Invalid)
	})
}

func TestSignUpRefusesWhatIsWrong(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	for name, change := range map[string]func(s *email.SignUp){
		"login": func(s *email.SignUp) { s.Login = "e v e" }, "reserved login": func(s *email.SignUp) { s.Login = "api" },
		"address": func(s *email.SignUp) { s.Email = "eve@example.com,bob@example.com" }, "password": func(s *email.SignUp) { s.Password = "short" },
		"weak password": func(s *email.SignUp) { s.Password = "eve@example.com1" },
	} {
		s := eve
		change(&s)
		if err := w.SignUp(t.Context(), s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if mails := w.mail.take(); len(mails) != 0 {
		t.Errorf("mailed %+v", mails)
	}
	w.config.SignUp = false
	w.open(t, cheap)
	kind(t, w.SignUp(t.Context(), eve), errs.NotFound)

	// Whoever has an invite signs up nevertheless, while it is good.
	organization, err := w.directory.CreateOrganization(t.Context(), identity.Principal{}, "acme", "")
	ok(t, err)
	invite, secret, err := w.directory.CreateInvite(t.Context(), identity.Principal{}, organization.ID, eve.Email, identity.RoleMember)
	ok(t, err)
	invited := eve
	invited.Invite = secret + "x"
	kind(t, w.SignUp(t.Context(), invited), errs.NotFound)
	invited.Invite = secret
	ok(t, w.SignUp(t.Context(), invited))
	_, err = w.ConfirmSignUp(t.Context(), codeOf(t, w.mail.letter(t, "sign-up", "eve@example.com")))
	ok(t, err)
	ok(t, w.directory.CancelInvite(t.Context(), identity.Principal{}, organization.ID, invite.ID))
	kind(t, w.SignUp(t.Context(), invited), errs.NotFound)
}

// Somebody who has an account already gets the same answer after the same work: one
// hash, one row, one mail. What is different is in the mail.
func TestSignUpTellsNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "bob")
		for _, address := range []string{"new@example.com", "bob@example.com"} {
			before := w.Hashes()
			release := w.Occupy()
			done := make(chan error, 1)
			go func() {
				done <- w.SignUp(t.Context(), email.SignUp{Login: "bob", Email: address, Password: good})
			}()
			w.waits() // for the slot to hash in
			release()
			ok(t, <-done)
			if n := w.Hashes() - before; n != 1 {
				t.Errorf("%s: %d hashes", address, n)
			}
			var codes int64
			ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM email_codes WHERE address = ?", address).Scan(&codes).Error)
			if events := w.audit.take(); codes != 1 || len(events) != 0 {
				t.Errorf("%s: %d links, recorded %v", address, codes, names(events))
			}
			if address == "bob@example.com" {
				if m := w.mail.letter(t, "account-exists", address); strings.Contains(m.Link, "code") || !strings.Contains(m.Text, "bob") {
					t.Errorf("mailed %+v", m)
				}
				continue
			}
			w.mail.letter(t, "sign-up", address)
		}
	})
}

// Whoever comes first has the login; the others get one like it.
func TestSignUpsForTheSameLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.bootstrap(t)
		w.mail.take()
		logins := map[string]bool{}
		for i := range 14 {
			s := eve
			s.Login, s.Email = "acme", fmt.Sprintf("u%d@example.com", i) // an organization's
			ok(t, w.SignUp(from(t.Context(), fmt.Sprintf("192.0.2.%d", i)), s))
			user, err := w.ConfirmSignUp(t.Context(), codeOf(t, w.mail.letter(t, "sign-up", s.Email)))
			ok(t, err)
			logins[user.Login] = true
		}
		if len(logins) != 14 || !logins["acme-2"] || !logins["acme-9"] || logins["acme"] {
			t.Errorf("logins %v", logins)
		}
	})
}

func TestSuffixed(t *testing.T) {
	long := strings.Repeat("a", 39)
	for i := range 20 {
		for _, login := range []string{"a", "ab", long} {
			if got := email.Suffixed(login, i+1); identity.ValidLogin(got) != nil || i == 0 && got != login {
				t.Errorf("the %d. login like %s is %s", i+1, login, got)
			}
		}
	}
}

func TestSignUpLinksAreGoodOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		// Two sign-ups for the same address: the first that is confirmed ends the other.
		ok(t, w.SignUp(t.Context(), eve))
		one := codeOf(t, w.mail.letter(t, "sign-up", "eve@example.com"))
		other := eve
		other.Login = "mallory"
		ok(t, w.SignUp(t.Context(), other))
		two := codeOf(t, w.mail.letter(t, "sign-up", "eve@example.com"))
		if passed := together(t, 10, errs.Invalid, func() error { _, err := w.ConfirmSignUp(t.Context(), one); return err }); passed != 1 {
			t.Errorf("%d of 10 won", passed)
		}
		_, err := w.ConfirmSignUp(t.Context(), two)
		kind(t, err, errs.Invalid)
		_, err = w.directory.UserByLogin(t.Context(), "mallory")
		kind(t, err, errs.NotFound)
		ok(t, w.SignUp(t.Context(), email.SignUp{Login: "late", Email: "late@example.com", Password: good}))
		late := codeOf(t, w.mail.letter(t, "sign-up", "late@example.com"))
		// Somebody has got the address by other means meanwhile.
		user, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "lucy", Email: "late@example.com"})
		ok(t, err)
		ok(t, w.SetPassword(t.Context(), identity.Principal{}, user.ID, good))
		_, err = w.ConfirmSignUp(t.Context(), late)
		kind(t, err, errs.Conflict)
		w.mail.take()
		ok(t, w.SignUp(t.Context(), email.SignUp{Login: "slow", Email: "slow@example.com", Password: good}))
		slow := codeOf(t, w.mail.letter(t, "sign-up", "slow@example.com"))
		w.advance(email.ConfirmLife)
		_, err = w.ConfirmSignUp(t.Context(), slow)
		kind(t, err, errs.Invalid)
	})
}

// Nobody's mailbox is filled, and no network fills many. The answer stays the same.
func TestMailsAreLimited(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "bob")
		for i := range 8 { // from everywhere, for an address
			ctx := from(t.Context(), fmt.Sprintf("192.0.2.%d", i))
			if i%2 == 0 {
				ok(t, w.ForgotPassword(ctx, "bob@example.com"))
			} else {
				ok(t, w.SignUp(ctx, email.SignUp{Login: "x", Email: "Bob@example.com", Password: good}))
			}
		}
		if mails := w.mail.take(); len(mails) != 5 {
			t.Errorf("%d mails to one address", len(mails))
		}
		count := 0
		for _, name := range names(w.audit.take()) {
			if name == "user-mail-throttled throttled_address" {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%d events", count)
		}
		for i := range 30 { // from one network, for everybody
			ok(t, w.SignUp(from(t.Context(), fmt.Sprintf("2001:db8::%d", i)), email.SignUp{Login: "x", Email: fmt.Sprintf("x%d@example.com", i), Password: good}))
		}
		if mails := w.mail.take(); len(mails) != 20 {
			t.Errorf("%d mails for one network", len(mails))
		}
		if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-mail-throttled throttled_network" {
			t.Errorf("recorded %v", events)
		}
		w.open(t, cheap) // a restart, or another replica
		ok(t, w.ForgotPassword(t.Context(), "bob@example.com"))
		if mails := w.mail.take(); len(mails) != 0 {
			t.Errorf("mailed %+v", mails)
		}
		w.advance(email.MailWindow)
		ok(t, w.ForgotPassword(t.Context(), "bob@example.com"))
		w.mail.letter(t, "reset", "bob@example.com")
	})
}
