package email_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

// passkey gives a user a passkey.
func (w *world) passkey(t testing.TB, user identity.User) *authenticator {
	t.Helper()
	a := newAuthenticator(t)
	p := w.session(t, user, 0)
	options, sealedText, err := w.BeginPasskey(t.Context(), p)
	ok(t, err)
	ok(t, w.FinishPasskey(t.Context(), p, sealedText, "  my\x00 key ", a.create(t, options)))
	w.audit.take()
	w.mail.take()
	return a
}

func (w *world) signInWith(t testing.TB, a *authenticator) (identity.User, error) {
	t.Helper()
	options, sealedText, err := w.BeginPasskeySignIn(t.Context())
	ok(t, err)
	a.counter++
	return w.FinishPasskeySignIn(t.Context(), sealedText, a.assert(t, options))
}

func TestPasskey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		w.audit.take()
		a := newAuthenticator(t)
		options, sealedText, err := w.BeginPasskey(t.Context(), p)
		ok(t, err)
		ok(t, w.FinishPasskey(t.Context(), p, sealedText, "  my\x00 key ", a.create(t, options)))
		if events := names(w.audit.take()); strings.Join(events, " ") != "user-passkey-added" {
			t.Errorf("recorded %v", events)
		}
		w.mail.letter(t, "notice", "bob@example.com")
		keys, err := w.Passkeys(t.Context(), user.ID)
		if err != nil || len(keys) != 1 || keys[0].Name != "my key" || !keys[0].Used.IsZero() || !keys[0].Created.Equal(w.now()) {
			t.Fatalf("passkeys %+v, %v", keys, err)
		}
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors.Passkeys != 1 || factors.MFA() {
			t.Errorf("%+v, %v", factors, err)
		}
		for range 3 {
			got, err := w.signInWith(t, a)
			ok(t, err)
			if got != user {
				t.Errorf("signed in as %+v", got)
			}
		}
		if keys, err := w.Passkeys(t.Context(), user.ID); err != nil || !keys[0].Used.Equal(w.now()) {
			t.Errorf("passkeys %+v, %v", keys, err)
		}
		// Passkeys of the kind that are kept in the cloud count nothing.
		b := newAuthenticator(t)
		b.flags |= backupAble
		options, sealedText, err = w.BeginPasskey(t.Context(), p)
		ok(t, err)
		if !bytes.Contains(options, []byte(base64url(a.id))) || !bytes.Contains(options, []byte(base64url(a.handle))) {
			t.Errorf("options %s", options)
		}
		ok(t, w.FinishPasskey(t.Context(), p, sealedText, "", b.create(t, options)))
		for range 2 {
			b.counter = 0
			options, sealedText, err := w.BeginPasskeySignIn(t.Context())
			ok(t, err)
			_, err = w.FinishPasskeySignIn(t.Context(), sealedText, b.assert(t, options))
			ok(t, err)
		}
		other := w.session(t, w.user(t, "other"), 0)
		kind(t, w.RemovePasskey(t.Context(), other, keys[0].ID), errs.NotFound)
		w.audit.take()
		ok(t, w.RemovePasskey(t.Context(), p, keys[0].ID))
		if events := names(w.audit.take()); strings.Join(events, " ") != "user-passkey-removed" {
			t.Errorf("recorded %v", events)
		}
		_, err = w.signInWith(t, a)
		reason(t, err, email.PasskeyRefused)
	})
}

// PWD-20, as a passkey is made.
func TestPasskeysThatAreNotAdded(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *authenticator)
		spoil  func(t *testing.T, w *world, user identity.User, sealedText string) (identity.Principal, string)
		reason string
	}{
		"another site":          {change: func(a *authenticator) { a.origin = "https://evil.example.com" }},
		"a site below":          {change: func(a *authenticator) { a.origin = "https://x.ipuka.example.com" }},
		"another port":          {change: func(a *authenticator) { a.origin = "https://ipuka.example.com:8443" }},
		"without TLS":           {change: func(a *authenticator) { a.origin = "http://ipuka.example.com" }},
		"in a frame":            {change: func(a *authenticator) { a.cross = true }},
		"another relying party": {change: func(a *authenticator) { a.rpID = "example.com" }},
		"another challenge":     {change: func(a *authenticator) { a.challenge = base64url(make([]byte, 32)) }},
		"an assertion":          {change: func(a *authenticator) { a.kind = "webauthn.get" }},
		"user not verified":     {change: func(a *authenticator) { a.flags = userPresent }},
		"user not present":      {change: func(a *authenticator) { a.flags = userVerified }},
		"too late": {reason: email.PasskeyExpired, spoil: func(t *testing.T, w *world, user identity.User, sealedText string) (identity.Principal, string) {
			w.advance(5 * time.Minute)
			return w.session(t, user, 0), sealedText
		}},
		"begun by somebody else": {reason: email.PasskeyExpired, spoil: func(t *testing.T, w *world, _ identity.User, sealedText string) (identity.Principal, string) {
			return w.session(t, w.user(t, "other"), 0), sealedText
		}},
		"begun as a sign-in": {reason: email.PasskeyExpired, spoil: func(t *testing.T, w *world, user identity.User, _ string) (identity.Principal, string) {
			_, sealedText, err := w.BeginPasskeySignIn(t.Context())
			ok(t, err)
			return w.session(t, user, 0), sealedText
		}},
		"begun never": {reason: email.PasskeyExpired, spoil: func(t *testing.T, w *world, user identity.User, sealedText string) (identity.Principal, string) {
			return w.session(t, user, 0), "A" + sealedText
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
			user := w.user(t, "bob")
			p := w.session(t, user, 0)
			options, sealedText, err := w.BeginPasskey(t.Context(), p)
			ok(t, err)
			a := newAuthenticator(t)
			if c.change != nil {
				c.change(a)
			}
			response := a.create(t, options)
			if c.spoil != nil {
				p, sealedText = c.spoil(t, w, user, sealedText)
			}
			w.audit.take()
			kind(t, w.FinishPasskey(t.Context(), p, sealedText, "key", response), errs.Invalid)
			want := "user-passkey-refused " + or(c.reason, email.PasskeyRefused)
			if events := names(w.audit.take()); len(events) != 1 || events[0] != want {
				t.Errorf("recorded %v, want %s", events, want)
			}
			if keys, err := w.Passkeys(t.Context(), p.UserID); err != nil || len(keys) != 0 {
				t.Errorf("passkeys %+v, %v", keys, err)
			}
		})
	}
}

func TestPasskeysAreAddedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		options, sealedText, err := w.BeginPasskey(t.Context(), p)
		ok(t, err)
		a := newAuthenticator(t)
		ok(t, w.FinishPasskey(t.Context(), p, sealedText, "key", a.create(t, options)))
		w.audit.take()
		again := newAuthenticator(t) // another key, by the same ceremony
		kind(t, w.FinishPasskey(t.Context(), p, sealedText, "key", again.create(t, options)), errs.Invalid)
		if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-passkey-refused "+email.PasskeyReplayed {
			t.Errorf("recorded %v", events)
		}
		// Nobody takes somebody else's key over.
		other := w.session(t, w.user(t, "other"), 0)
		options, sealedText, err = w.BeginPasskey(t.Context(), other)
		ok(t, err)
		thief := *a
		kind(t, w.FinishPasskey(t.Context(), other, sealedText, "key", thief.create(t, options)), errs.Conflict)
		got, err := w.signInWith(t, a)
		ok(t, err)
		if got.ID != user.ID {
			t.Errorf("signed in as %+v", got)
		}
		for i := range 25 {
			options, sealedText, err := w.BeginPasskey(t.Context(), p)
			ok(t, err)
			if err = w.FinishPasskey(t.Context(), p, sealedText, fmt.Sprint(i), newAuthenticator(t).create(t, options)); i < email.MaxPasskeys-1 {
				ok(t, err)
			} else {
				kind(t, err, errs.Conflict)
			}
		}
	})
}

// PWD-20, as somebody signs in.
func TestPasskeysThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, w *world, a *authenticator, user identity.User)
		spoil  func(t *testing.T, w *world, sealedText string, response []byte) (string, []byte)
		reason string // PasskeyRefused when empty
		object string // "user" when empty
	}{
		"another site": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.origin = "https://evil.example.com" }},
		"a site below": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) {
			a.origin = "https://x.ipuka.example.com"
		}},
		"a site that begins so": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) {
			a.origin = "https://ipuka.example.com.evil.com"
		}},
		"another port": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) {
			a.origin = "https://ipuka.example.com:8443"
		}},
		"without TLS":           {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.origin = "http://ipuka.example.com" }},
		"in a frame":            {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.cross = true }},
		"another relying party": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.rpID = "example.com" }},
		"another challenge": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) {
			a.challenge = base64url(make([]byte, 32))
		}},
		"a registration":      {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.kind = "webauthn.create" }},
		"user not verified":   {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.flags = userPresent }},
		"user not present":    {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.flags = userVerified }},
		"another kind of key": {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.flags |= backupAble }},
		"another key":         {change: func(t *testing.T, _ *world, a *authenticator, _ identity.User) { a.key = newAuthenticator(t).key }},
		"another credential":  {change: func(t *testing.T, _ *world, a *authenticator, _ identity.User) { a.id = newAuthenticator(t).id }},
		"nobody's handle":     {reason: email.PasskeyUnknown, change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.handle = make([]byte, 64) }},
		"no handle":           {change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.handle = nil }},
		"somebody else's handle": {change: func(t *testing.T, w *world, a *authenticator, _ identity.User) {
			a.handle = w.passkey(t, w.user(t, "other")).handle
		}},
		"the counter went back": {reason: email.PasskeyCloned, object: "user:bob", change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.counter = 1 }},
		"the counter stood":     {reason: email.PasskeyCloned, object: "user:bob", change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.counter-- }},
		"the counter is gone":   {reason: email.PasskeyCloned, object: "user:bob", change: func(_ *testing.T, _ *world, a *authenticator, _ identity.User) { a.counter = ^uint32(0) }},
		"a disabled user": {reason: email.AccountDisabled, object: "user:bob", change: func(t *testing.T, w *world, _ *authenticator, user identity.User) {
			ok(t, w.directory.Disable(t.Context(), identity.Principal{}, user.ID))
		}},
		"a managed account": {reason: "managed_account", object: "user:bob", change: func(t *testing.T, w *world, _ *authenticator, user identity.User) {
			ok(t, w.db.Conn(t.Context()).Exec("UPDATE users SET managed_by = 'o' WHERE id = ?", user.ID).Error)
		}},
		"too late": {reason: email.PasskeyExpired, spoil: func(_ *testing.T, w *world, sealedText string, response []byte) (string, []byte) {
			w.advance(5 * time.Minute)
			return sealedText, response
		}},
		"begun never": {reason: email.PasskeyExpired, spoil: func(_ *testing.T, _ *world, _ string, response []byte) (string, []byte) { return "", response }},
		"begun as a registration": {reason: email.PasskeyExpired, spoil: func(t *testing.T, w *world, _ string, response []byte) (string, []byte) {
			_, sealedText, err := w.BeginPasskey(t.Context(), w.session(t, w.user(t, "third"), 0))
			ok(t, err)
			return sealedText, response
		}},
		"begun elsewhere": {spoil: func(t *testing.T, w *world, _ string, response []byte) (string, []byte) {
			_, sealedText, err := w.BeginPasskeySignIn(t.Context())
			ok(t, err)
			return sealedText, response
		}},
		"no answer": {spoil: func(_ *testing.T, _ *world, sealedText string, _ []byte) (string, []byte) { return sealedText, nil }},
		"half of one": {spoil: func(_ *testing.T, _ *world, sealedText string, r []byte) (string, []byte) {
			return sealedText, r[:len(r)/2]
		}},
		"too much": {spoil: func(_ *testing.T, _ *world, sealedText string, r []byte) (string, []byte) {
			return sealedText, append(bytes.Repeat([]byte(" "), 64<<10), r...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
			user := w.user(t, "bob")
			a := w.passkey(t, user)
			a.counter = 4
			_, err := w.signInWith(t, a)
			ok(t, err)
			a.counter++
			if c.change != nil {
				c.change(t, w, a, user)
			}
			options, sealedText, err := w.BeginPasskeySignIn(t.Context())
			ok(t, err)
			response := a.assert(t, options)
			if a.counter == ^uint32(0) {
				a.counter = 0
				response = a.assert(t, options)
			}
			if c.spoil != nil {
				sealedText, response = c.spoil(t, w, sealedText, response)
			}
			w.audit.take()
			_, err = w.FinishPasskeySignIn(t.Context(), sealedText, response)
			reason(t, err, or(c.reason, email.PasskeyRefused))
			events := w.audit.take()
			if len(events) != 1 || events[0].Name != "user-login-failed" || events[0].Rule != or(c.reason, email.PasskeyRefused) || events[0].Object != or(c.object, "user") {
				t.Errorf("recorded %+v", events)
			}
		})
	}
}

// One answer signs in once.
func TestPasskeyAnswersAreGoodOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, counts := range []bool{true, false} {
			a := w.passkey(t, w.user(t, fmt.Sprint("bob-", counts)))
			if counts {
				a.counter = 7
			}
			options, sealedText, err := w.BeginPasskeySignIn(t.Context())
			ok(t, err)
			response := a.assert(t, options)
			passed := together(t, 10, errs.Unauthenticated, func() error {
				_, err := w.FinishPasskeySignIn(t.Context(), sealedText, response)
				return err
			})
			if passed != 1 {
				t.Errorf("%d of 10 signed in, counter %d", passed, a.counter)
			}
			_, err = w.FinishPasskeySignIn(t.Context(), sealedText, response)
			kind(t, err, errs.Unauthenticated)
		}
	})
}

func TestWherePasskeysAreNot(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	a := w.passkey(t, user)
	options, sealedText, err := w.BeginPasskeySignIn(t.Context())
	ok(t, err)
	w.config.PasswordLogin = false
	w.open(t, cheap)
	_, err = w.FinishPasskeySignIn(t.Context(), sealedText, a.assert(t, options))
	reason(t, err, email.PasswordLoginOff)
	_, _, err = w.BeginPasskeySignIn(t.Context())
	kind(t, err, errs.NotFound)
	_, _, err = w.BeginPasskey(t.Context(), w.session(t, user, 0))
	kind(t, err, errs.Forbidden)
	w.config.PasswordLogin = true
	for _, console := range []string{"https://192.0.2.1", "https://[::1]:8443", ""} {
		w.config.ConsoleURL = console
		w.open(t, cheap)
		_, _, err = w.BeginPasskeySignIn(t.Context())
		kind(t, err, errs.NotFound)
	}
	for _, console := range []string{"ipuka.example.com", "ftp://ipuka.example.com", "https://", "://"} {
		w.config.ConsoleURL = console
		if _, err := email.New(w.config); err == nil {
			t.Errorf("%q is taken", console)
		}
	}
}

func FuzzPasskeyAnswers(f *testing.F) {
	w := newWorld(f, databasetest.SQLite(f, migrations...), cheap)
	options, sealedText, err := w.BeginPasskeySignIn(f.Context())
	ok(f, err)
	a := newAuthenticator(f)
	a.handle = make([]byte, 64)
	f.Add(a.assert(f, options))
	f.Fuzz(func(t *testing.T, response []byte) {
		if _, err := w.FinishPasskeySignIn(t.Context(), sealedText, response); errs.KindOf(err) != errs.Unauthenticated {
			t.Errorf("%v", err)
		}
	})
}
