package email_test

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"image/png"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

// app is what an authenticator app knows.
type app struct {
	w      *world
	secret string
}

// code returns the code that the app shows, some steps from now.
func (a app) code(t testing.TB, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(a.secret, a.w.now().Add(time.Duration(steps)*30*time.Second))
	ok(t, err)
	return code
}

// wrong returns a code that is none of those around now.
func (a app) wrong(t testing.TB, i int) string {
	t.Helper()
	for {
		code := fmt.Sprintf("%06d", i)
		if code != a.code(t, -1) && code != a.code(t, 0) && code != a.code(t, 1) {
			return code
		}
		i += 1000
	}
}

// enrol sets an app up for a user and moves on by two steps, so that the code that was
// used for it is of the past.
func (w *world) enrol(t testing.TB, user identity.User) (app, []string) {
	t.Helper()
	p := w.session(t, user, 0)
	enrolment, err := w.BeginTOTP(t.Context(), p)
	ok(t, err)
	a := app{w, enrolment.Secret}
	codes, err := w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.code(t, 0))
	ok(t, err)
	w.advance(time.Minute)
	return a, codes
}

func TestTOTP(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		p := w.session(t, user, 0)
		w.audit.take()
		enrolment, err := w.BeginTOTP(t.Context(), p)
		ok(t, err)
		picture, err := png.Decode(bytes.NewReader(enrolment.PNG))
		ok(t, err)
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(enrolment.Secret)
		ok(t, err)
		if len(raw) != 20 || picture.Bounds().Dx() < 200 || !strings.HasPrefix(enrolment.URI, "otpauth://totp/Ipuka:bob?") || strings.Contains(enrolment.Sealed, enrolment.Secret) {
			t.Errorf("%+v", enrolment)
		}
		a := app{w, enrolment.Secret}
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors != (email.Factors{Password: true}) || factors.MFA() {
			t.Errorf("before it is confirmed: %+v, %v", factors, err)
		}
		_, err = w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.wrong(t, 0))
		kind(t, err, errs.Invalid)
		codes, err := w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.code(t, 0))
		ok(t, err)
		if events := names(w.audit.take()); len(codes) != email.RecoveryCodes || len(events) != 1 || events[0] != "user-mfa-enrolled" {
			t.Errorf("%d codes, recorded %v", len(codes), events)
		}
		w.mail.letter(t, "notice", "bob@example.com")
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors != (email.Factors{Password: true, TOTP: true, RecoveryCodes: 10}) || !factors.MFA() {
			t.Errorf("%+v, %v", factors, err)
		}
		// The code that it was set up with is used up.
		kind(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)), errs.Unauthenticated)
		w.advance(30 * time.Second)
		ok(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)))
		_, err = w.BeginTOTP(t.Context(), p)
		kind(t, err, errs.Conflict)
		_, err = w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.code(t, 1))
		kind(t, err, errs.Conflict)

		w.audit.take()
		ok(t, w.RemoveTOTP(t.Context(), p))
		if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-mfa-reset" {
			t.Errorf("recorded %v", events)
		}
		w.mail.letter(t, "notice", "bob@example.com")
		kind(t, w.RemoveTOTP(t.Context(), p), errs.Conflict)
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors != (email.Factors{Password: true}) {
			t.Errorf("%+v, %v", factors, err)
		}
		// Without a second factor no code is right.
		reason(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)), email.MFAOff)
		kind(t, w.UseRecoveryCode(t.Context(), user.ID, codes[0]), errs.Unauthenticated)
	})
}

func TestCodesThatAreRefused(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	a, _ := w.enrol(t, user)
	for name, c := range map[string]struct {
		code   func() string
		reason string // "" for a right one
	}{
		"right":               {func() string { return a.code(t, 0) }, ""},
		"a step late":         {func() string { return a.code(t, -1) }, ""},
		"a step early":        {func() string { return a.code(t, 1) }, ""},
		"two steps late":      {func() string { return a.code(t, -2) }, email.WrongCode},
		"two steps early":     {func() string { return a.code(t, 2) }, email.WrongCode},
		"empty":               {func() string { return "" }, email.WrongCode},
		"five digits":         {func() string { return a.code(t, 0)[:5] }, email.WrongCode},
		"a space before":      {func() string { return " " + a.code(t, 0) }, email.WrongCode},
		"a space after":       {func() string { return a.code(t, 0) + " " }, email.WrongCode},
		"a space within":      {func() string { return a.code(t, 0)[:3] + " " + a.code(t, 0)[3:] }, email.WrongCode},
		"a line end":          {func() string { return a.code(t, 0) + "\n" }, email.WrongCode},
		"a zero byte":         {func() string { return a.code(t, 0) + "\x00" }, email.WrongCode},
		"a zero before":       {func() string { return "0" + a.code(t, 0) }, email.WrongCode},
		"digits of elsewhere": {func() string { return strings.Map(func(r rune) rune { return r + 0x660 - '0' }, a.code(t, 0)) }, email.WrongCode},
		"a sign":              {func() string { return "+" + a.code(t, 0)[1:] }, email.WrongCode},
	} {
		w.advance(time.Hour) // whatever was counted before is forgotten
		w.audit.take()
		err := w.CheckTOTP(t.Context(), user.ID, c.code())
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		reason(t, err, c.reason)
		if events := names(w.audit.take()); len(events) != 1 || events[0] != "user-mfa-failed "+c.reason {
			t.Errorf("%s: recorded %v", name, events)
		}
	}
}

// A code is good once, also for those who bring it at the same moment, and with it all
// older ones are spent.
func TestCodesAreGoodOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		a, _ := w.enrol(t, user)
		var passed, refused, exhausted atomic.Int64
		code := a.code(t, 0)
		together(t, 20, errs.Internal, func() error {
			switch err := w.CheckTOTP(t.Context(), user.ID, code); errs.KindOf(err) {
			case errs.Unauthenticated:
				refused.Add(1)
			case errs.Exhausted:
				exhausted.Add(1)
			default:
				if err != nil {
					return err
				}
				passed.Add(1)
			}
			return nil
		})
		if passed.Load() != 1 || refused.Load() > 5 || passed.Load()+refused.Load()+exhausted.Load() != 20 {
			t.Errorf("%d passed, %d refused, %d exhausted", passed.Load(), refused.Load(), exhausted.Load())
		}
		w.advance(time.Hour)
		ok(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 1)))
		reason(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 1)), email.ReplayedCode)
		reason(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)), email.ReplayedCode)
		w.open(t, cheap)
		reason(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 1)), email.ReplayedCode)
	})
}

// Five wrong codes of any kind within 15 minutes, whichever session, network, replica
// or page they come by.
func TestGuessesAreLimited(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		other := w.user(t, "other")
		a, codes := w.enrol(t, user)
		b, _ := w.enrol(t, other)
		w.audit.take()
		var judged atomic.Int64
		try := func(i int) error {
			err := w.CheckTOTP(from(t.Context(), fmt.Sprintf("192.0.2.%d", i)), user.ID, a.wrong(t, i))
			if i%2 == 0 {
				err = w.UseRecoveryCode(from(t.Context(), fmt.Sprintf("192.0.2.%d", i)), user.ID, "aaaa-bbbb-cccc-dddd")
			}
			return err
		}
		var n atomic.Int64
		together(t, 40, errs.Exhausted, func() error {
			err := try(int(n.Add(1)))
			if errs.KindOf(err) == errs.Unauthenticated {
				judged.Add(1)
				return nil
			}
			return err
		})
		events := w.audit.take()
		limits := 0
		for _, name := range names(events) {
			if name == "user-mfa-failed throttled_account" {
				limits++
			}
		}
		if judged.Load() > 5 || limits != 1 || len(events) != 5+1 {
			t.Errorf("%d were judged, recorded %v", judged.Load(), names(events))
		}
		w.open(t, cheap) // no restart helps, nor another replica
		kind(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)), errs.Exhausted)
		kind(t, w.UseRecoveryCode(t.Context(), user.ID, codes[0]), errs.Exhausted)
		ok(t, w.CheckTOTP(t.Context(), other.ID, b.code(t, 0)))
		w.advance(15*time.Minute - time.Second)
		kind(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)), errs.Exhausted)
		w.advance(time.Second)
		// What is right costs nothing.
		for range 8 {
			ok(t, w.CheckTOTP(t.Context(), user.ID, a.code(t, 0)))
			w.advance(30 * time.Second)
		}
	})
}

func TestRecoveryCodes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		_, codes := w.enrol(t, user)
		seen := map[string]bool{}
		for _, code := range codes {
			if seen[code] = true; len(code) != 19 || strings.Count(code, "-") != 3 {
				t.Errorf("a recovery code is %s", code)
			}
		}
		if len(seen) != 10 {
			t.Errorf("%d different ones", len(seen))
		}
		w.audit.take()
		w.mail.take()
		passed := together(t, 5, errs.Unauthenticated, func() error { return w.UseRecoveryCode(t.Context(), user.ID, codes[0]) })
		if passed != 1 {
			t.Errorf("%d of 5 won", passed)
		}
		used := 0
		for _, name := range names(w.audit.take()) {
			if name == "user-recovery-code-used" {
				used++
			}
		}
		if mails := w.mail.take(); used != 1 || len(mails) != 1 || mails[0].Kind != "notice" {
			t.Errorf("%d events, mailed %+v", used, mails)
		}
		w.advance(time.Hour)
		ok(t, w.UseRecoveryCode(t.Context(), user.ID, " "+strings.ToUpper(strings.ReplaceAll(codes[1], "-", ""))+" "))
		for _, again := range []string{codes[0], codes[1], strings.ToUpper(codes[0]), strings.ReplaceAll(codes[0], "-", " ")} {
			kind(t, w.UseRecoveryCode(t.Context(), user.ID, again), errs.Unauthenticated)
		}
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors.RecoveryCodes != 8 {
			t.Errorf("%+v, %v", factors, err)
		}
		w.advance(time.Hour)
		fresh, err := w.NewRecoveryCodes(t.Context(), w.session(t, user, 0))
		ok(t, err)
		kind(t, w.UseRecoveryCode(t.Context(), user.ID, codes[2]), errs.Unauthenticated)
		ok(t, w.UseRecoveryCode(t.Context(), user.ID, fresh[0]))
		other := w.user(t, "other")
		w.enrol(t, other)
		kind(t, w.UseRecoveryCode(t.Context(), other.ID, fresh[1]), errs.Unauthenticated)
		// Nothing of them is stored, nor of the secret.
		var rows []string
		ok(t, w.db.Reader(t.Context()).Raw("SELECT hash FROM recovery_codes").Scan(&rows).Error)
		for _, row := range rows {
			if strings.Contains(row, fresh[1][:4]) {
				t.Error("a code is stored")
			}
		}
		_, err = w.NewRecoveryCodes(t.Context(), w.session(t, w.user(t, "plain"), 0))
		kind(t, err, errs.Conflict)
	})
}

// What changes how somebody signs in needs a session that began lately, and not just
// any session, a token, or a first factor.
func TestStepUp(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	fresh := w.session(t, user, 0)
	enrolment, err := w.BeginTOTP(t.Context(), fresh)
	ok(t, err)
	a := app{w, enrolment.Secret}
	_, sealedKey, err := w.BeginPasskey(t.Context(), fresh)
	ok(t, err)
	for name, p := range map[string]identity.Principal{
		"an old session":        w.session(t, user, identity.StepUpWithin+time.Minute),
		"the first factor only": user.Principal(identity.EmailConnector),
		"a token":               {UserID: user.ID, Login: user.Login, TokenID: "t"},
		"nobody":                {},
	} {
		for call, f := range map[string]func() error{
			"ChangePassword":   func() error { return w.ChangePassword(t.Context(), p, good, another) },
			"ChangeEmail":      func() error { return w.ChangeEmail(t.Context(), p, "other@example.com") },
			"BeginTOTP":        func() error { _, err := w.BeginTOTP(t.Context(), p); return err },
			"ConfirmTOTP":      func() error { _, err := w.ConfirmTOTP(t.Context(), p, enrolment.Sealed, a.code(t, 0)); return err },
			"RemoveTOTP":       func() error { return w.RemoveTOTP(t.Context(), p) },
			"NewRecoveryCodes": func() error { _, err := w.NewRecoveryCodes(t.Context(), p); return err },
			"BeginPasskey":     func() error { _, _, err := w.BeginPasskey(t.Context(), p); return err },
			"FinishPasskey":    func() error { return w.FinishPasskey(t.Context(), p, sealedKey, "key", []byte("{}")) },
			"RemovePasskey":    func() error { return w.RemovePasskey(t.Context(), p, "x") },
		} {
			if err := f(); errs.KindOf(err) != errs.Forbidden {
				t.Errorf("%s with %s: %v", call, name, err)
			}
		}
	}
	if mails := w.mail.take(); len(mails) != 0 {
		t.Errorf("mailed %+v", mails)
	}
	// What was begun for one user is of no use to another, nor later, nor as anything else.
	other := w.session(t, w.user(t, "other"), 0)
	_, err = w.ConfirmTOTP(t.Context(), other, enrolment.Sealed, a.code(t, 0))
	kind(t, err, errs.Invalid)
	_, err = w.ConfirmTOTP(t.Context(), fresh, sealedKey, a.code(t, 0))
	kind(t, err, errs.Invalid)
	w.advance(time.Hour)
	_, err = w.ConfirmTOTP(t.Context(), w.session(t, user, 0), enrolment.Sealed, a.code(t, 0))
	kind(t, err, errs.Invalid)
}

// A second factor stays whatever is done by a link (PWD-12).
func TestResetLeavesTheSecondFactor(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.user(t, "bob")
	w.enrol(t, user)
	w.mail.take()
	_, err := w.ResetPassword(t.Context(), w.forgot(t, "bob@example.com"), another)
	ok(t, err)
	if factors, err := w.Factors(t.Context(), user.ID); err != nil || !factors.MFA() || factors.RecoveryCodes != 10 {
		t.Errorf("%+v, %v", factors, err)
	}
}

func TestRemoveFactors(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		admin := w.bootstrap(t)
		user := w.user(t, "bob")
		w.enrol(t, user)
		w.audit.take()
		w.mail.take()
		ok(t, w.RemoveFactors(t.Context(), admin.Principal(""), user.ID))
		w.mail.letter(t, "notice", "bob@example.com")
		if events := names(w.audit.take()); strings.Join(events, " ") != "user-mfa-reset session-ended" {
			t.Errorf("recorded %v", events)
		}
		if factors, err := w.Factors(t.Context(), user.ID); err != nil || factors != (email.Factors{Password: true}) {
			t.Errorf("%+v, %v", factors, err)
		}
	})
}
