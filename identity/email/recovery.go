package email

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/ipuka/ipuka/identity"
)

// A recovery code is 80 random bits, as four groups of four characters of base32.
// They are too many to be guessed, so their SHA-256 is stored.
const (
	recoveryCodes  = 10
	recoveryBytes  = 10
	recoveryLength = 16 // in base32
)

func newRecoveryCodes() (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		raw := make([]byte, recoveryBytes)
		_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
		text := base32.StdEncoding.EncodeToString(raw)
		codes = append(codes, strings.ToLower(text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:]))
		hashes = append(hashes, recoveryHash(text))
	}
	return codes, hashes
}

// recoveryHash returns what a code is stored as, however it was typed; nothing for
// what is no code.
func recoveryHash(code string) []byte {
	text := strings.NewReplacer("-", "", " ", "").Replace(code)
	if len(code) > 2*recoveryLength || len(text) != recoveryLength {
		return nil
	}
	text = strings.ToUpper(text)
	if raw, err := base32.StdEncoding.DecodeString(text); err != nil || len(raw) != recoveryBytes {
		return nil
	}
	hash := sha256.Sum256([]byte("recovery " + text))
	return hash[:]
}

// UseRecoveryCode takes a recovery code for the second factor of a user, once. Its
// errors, and the tries that it counts, are those of [Connector.CheckTOTP].
func (c *Connector) UseRecoveryCode(ctx context.Context, userID, code string) error {
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return err
	}
	return c.guess(ctx, user, func() (string, error) {
		hash := recoveryHash(code)
		if hash == nil {
			return WrongCode, nil
		}
		now, err := c.clock(ctx)
		if err != nil {
			return "", err
		}
		reason := ""
		err = c.db.Tx(ctx, func(ctx context.Context) error {
			reason = ""
			used, err := c.store.useRecoveryCode(ctx, userID, hash, now)
			if err != nil {
				return err
			}
			if !used {
				reason = WrongCode
				return nil
			}
			actor := user.Principal(identity.EmailConnector)
			if err := c.did(ctx, actor, "user-recovery-code-used", user, "Used a recovery code of "+user.Login); err != nil {
				return err
			}
			return c.notify(ctx, user, user.Email, "A recovery code was used", "Somebody has signed in with your password and a recovery code instead of a code of your authenticator app.")
		})
		return reason, err
	})
}

// NewRecoveryCodes makes new recovery codes for p's user, which are not to be had
// again; the old ones are worthless. The session must have begun lately.
func (c *Connector) NewRecoveryCodes(ctx context.Context, p identity.Principal) ([]string, error) {
	user, err := c.fresh(ctx, p)
	if err != nil {
		return nil, err
	}
	codes, hashes := newRecoveryCodes()
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		if _, found, err := c.store.totp(ctx, user.ID); err != nil || !found {
			if err == nil {
				err = errNoMFA()
			}
			return err
		}
		if err := c.store.replaceRecoveryCodes(ctx, user.ID, hashes); err != nil {
			return err
		}
		if err := c.did(ctx, p, "user-recovery-codes-renewed", user, "Made new recovery codes for "+user.Login); err != nil {
			return err
		}
		return c.notify(ctx, user, user.Email, "New recovery codes were made", "The recovery codes that you had before are worthless.")
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}
