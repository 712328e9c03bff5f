package email

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base32"
	"image/png"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// The codes of RFC 6238 as every authenticator app knows them: HMAC-SHA-1, six digits,
// 30 seconds. A clock that is wrong by one step is put up with (§5.2).
const (
	totpPeriod = 30
	totpDigits = 6
	totpSecret = 20 // bytes
	totpSkew   = 1
)

// TOTPEnrolment is what an authenticator app is set up with. Whoever sees it can make
// the codes: it is shown once and kept nowhere but in Sealed.
type TOTPEnrolment struct {
	Secret string // in base32, to type
	URI    string // otpauth://…
	PNG    []byte // the URI as a QR code
	Sealed string // for ConfirmTOTP
}

// enrolment is what Sealed has in it.
type enrolment struct {
	Kind    string `json:"kind"`
	UserID  string `json:"user"`
	Secret  string `json:"secret"`
	Expires int64  `json:"expires"`
}

const (
	kindTOTP      = "totp"
	enrolmentLife = 30 * time.Minute
)

// BeginTOTP returns what p's user sets an authenticator app up with. Nothing changes
// before [Connector.ConfirmTOTP]. The session must have begun lately, and the account
// needs a password: a second factor is asked for after nothing else.
func (c *Connector) BeginTOTP(ctx context.Context, p identity.Principal) (TOTPEnrolment, error) {
	if err := c.sealable(); err != nil {
		return TOTPEnrolment{}, err
	}
	user, err := c.fresh(ctx, p)
	if err != nil {
		return TOTPEnrolment{}, err
	}
	factors, err := c.store.factors(ctx, user.ID)
	if err != nil {
		return TOTPEnrolment{}, err
	}
	if !factors.Password {
		return TOTPEnrolment{}, errs.Errorf(errs.Conflict, "a second factor belongs to a password, and the account has none")
	}
	if factors.TOTP {
		return TOTPEnrolment{}, errMFAOn()
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: c.site, AccountName: user.Login, Period: totpPeriod, SecretSize: totpSecret, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return TOTPEnrolment{}, err
	}
	now, err := c.clock(ctx)
	if err != nil {
		return TOTPEnrolment{}, err
	}
	e := TOTPEnrolment{Secret: key.Secret(), URI: key.URL()}
	picture, err := key.Image(240, 240)
	if err != nil {
		return TOTPEnrolment{}, err
	}
	var buffer bytes.Buffer
	if err := png.Encode(&buffer, picture); err != nil {
		return TOTPEnrolment{}, err
	}
	e.PNG = buffer.Bytes()
	e.Sealed, err = c.box.SealText(enrolment{Kind: kindTOTP, UserID: user.ID, Secret: e.Secret, Expires: database.Micros(now.Add(enrolmentLife))})
	return e, err
}

func errMFAOn() error {
	return errs.Errorf(errs.Conflict, "the account has a second factor already, remove it first")
}

// ConfirmTOTP asks for codes at every sign-in from now on, once code shows that the app
// has been set up, and returns recovery codes, which are not to be had again.
func (c *Connector) ConfirmTOTP(ctx context.Context, p identity.Principal, sealedText, code string) ([]string, error) {
	if err := c.sealable(); err != nil {
		return nil, err
	}
	user, err := c.fresh(ctx, p)
	if err != nil {
		return nil, err
	}
	now, err := c.clock(ctx)
	if err != nil {
		return nil, err
	}
	var e enrolment
	if err := c.box.OpenText(sealedText, &e); err != nil || e.Kind != kindTOTP || e.UserID != user.ID || database.Micros(now) >= e.Expires {
		return nil, errs.Errorf(errs.Invalid, "this took too long, begin again")
	}
	counter, ok := matchTOTP(e.Secret, code, now)
	if !ok {
		return nil, errs.Errorf(errs.Invalid, "the code is wrong: enter the six digits that the app shows now, and check the clock of its device")
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil {
		return nil, err
	}
	codes, hashes := newRecoveryCodes()
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		password, err := c.store.password(ctx, user.ID)
		if err != nil {
			return err
		}
		if password == "" {
			return errs.Errorf(errs.Conflict, "a second factor belongs to a password, and the account has none")
		}
		row := totpRow{UserID: user.ID, Secret: c.box.Seal(raw, totpContext(user.ID)), Counter: counter, Confirmed: database.Micros(now)}
		added, err := c.store.addTOTP(ctx, row)
		if err != nil {
			return err
		}
		if !added {
			return errMFAOn()
		}
		if err := c.store.replaceRecoveryCodes(ctx, user.ID, hashes); err != nil {
			return err
		}
		if err := c.did(ctx, p, "user-mfa-enrolled", user, "Set up a second factor for "+user.Login); err != nil {
			return err
		}
		return c.notify(ctx, user, user.Email, "A second factor was set up", "From now on a code of an authenticator app is asked for after your password.")
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

func totpContext(userID string) string { return "totp:" + userID }

// CheckTOTP judges a code that somebody gives as the second factor of a user. A wrong
// one, or one that was accepted before, is errs.Unauthenticated; after five wrong codes
// of any kind within 15 minutes all are errs.Exhausted, wherever they come from. For a
// user without a second factor all are wrong.
func (c *Connector) CheckTOTP(ctx context.Context, userID, code string) error {
	if err := c.sealable(); err != nil {
		return err
	}
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return err
	}
	return c.guess(ctx, user, func() (string, error) {
		row, found, err := c.store.totp(ctx, userID)
		if err != nil {
			return "", err
		}
		if !found {
			return MFAOff, nil
		}
		raw, err := c.box.Open(row.Secret, totpContext(userID))
		if err != nil {
			return "", errs.Wrap(errs.Internal, err, "the secret of a second factor cannot be opened")
		}
		now, err := c.clock(ctx)
		if err != nil {
			return "", err
		}
		counter, ok := matchTOTP(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw), code, now)
		if !ok {
			return WrongCode, nil
		}
		// Of everybody who brings the same code at the same moment this lets one through.
		accepted, err := c.store.advanceTOTP(ctx, userID, counter)
		if err == nil && !accepted {
			return ReplayedCode, nil
		}
		return "", err
	})
}

// matchTOTP returns the counter of the step that a code is of, if it is of one around
// now. The library's own check takes spaces around a code; here one code is one text.
func matchTOTP(secret, code string, now time.Time) (int64, bool) {
	if len(code) != totpDigits {
		return 0, false
	}
	for i := range len(code) {
		if code[i] < '0' || code[i] > '9' {
			return 0, false
		}
	}
	matched, ok := int64(0), false
	step := now.Unix() / totpPeriod
	for counter := step - totpSkew; counter <= step+totpSkew; counter++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(counter), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			matched, ok = counter, true
		}
	}
	return matched, ok
}

// RemoveTOTP asks for no codes any more when p's user signs in. The session must have
// begun lately.
func (c *Connector) RemoveTOTP(ctx context.Context, p identity.Principal) error {
	user, err := c.fresh(ctx, p)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		removed, err := c.store.dropTOTP(ctx, user.ID)
		if err != nil {
			return err
		}
		if !removed {
			return errNoMFA()
		}
		if err := c.did(ctx, p, "user-mfa-reset", user, "Removed the second factor of "+user.Login); err != nil {
			return err
		}
		return c.notify(ctx, user, user.Email, "The second factor was removed", "Your password alone is enough to sign in from now on.")
	})
}

func errNoMFA() error { return errs.Errorf(errs.Conflict, "the account has no second factor") }
