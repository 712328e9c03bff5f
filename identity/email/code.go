package email

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// The kinds of code, each the purpose of a link.
const (
	kindSignUp  = "sign-up"
	kindReset   = "reset"
	kindAddress = "address"
	kindNone    = "none" // leads nowhere
)

// How long a link is good for.
const (
	ResetLife   = 10 * time.Minute
	ConfirmLife = 24 * time.Hour
)

// A code is 256 random bits in base64url. Only its SHA-256 is stored.
const codeLength = 43

// codeHash returns what a code is stored as; nothing for what is no code, so that the
// database is not asked about it.
func codeHash(code string) []byte {
	if len(code) != codeLength || strings.ContainsAny(code, "\r\n") {
		return nil
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(code); err != nil {
		return nil
	}
	hash := sha256.Sum256([]byte(code))
	return hash[:]
}

// newCode makes a code, within the transaction of ctx. A second one of the same kind
// for the same user makes the first worthless. payload is sealed; nil is none.
func (c *Connector) newCode(ctx context.Context, kind, userID, address string, life time.Duration, payload any) (string, time.Time, error) {
	now, err := c.clock(ctx)
	if err != nil {
		return "", now, err
	}
	if err := c.sweep(ctx, now); err != nil {
		return "", now, err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	code := base64.RawURLEncoding.EncodeToString(raw)
	row := codeRow{
		Hash: codeHash(code), Kind: kind, UserID: userID, Address: address,
		Created: database.Micros(now), Expires: database.Micros(now.Add(life)),
	}
	row.Slot = kind + ":" + hex.EncodeToString(row.Hash)
	if userID != "" {
		row.Slot = kind + ":" + userID
	}
	if payload != nil {
		plain, err := json.Marshal(payload)
		if err != nil {
			return "", now, err
		}
		row.Payload = c.box.Seal(plain, row.context())
	}
	return code, now.Add(life), c.store.putCode(ctx, row)
}

// context is what a payload is sealed with: it opens in its own row only.
func (r codeRow) context() string { return "code:" + r.Kind + ":" + hex.EncodeToString(r.Hash) }

// openCode reads the payload of a code.
func (c *Connector) openCode(row codeRow, payload any) error {
	plain, err := c.box.Open(row.Payload, row.context())
	if err != nil {
		return errs.Wrap(errs.Internal, err, "a link's data cannot be opened")
	}
	return json.Unmarshal(plain, payload)
}

// code returns what a code of a kind stands for, and leaves it as it is. A code that
// is worthless is errs.Invalid, whyever it is.
func (c *Connector) code(ctx context.Context, kind, code string) (codeRow, error) {
	hash := codeHash(code)
	if hash == nil {
		return codeRow{}, c.worthless(ctx, CodeUnknown)
	}
	row, found, err := c.store.code(ctx, hash, kind)
	if err != nil {
		return codeRow{}, err
	}
	now, err := c.clock(ctx)
	if err != nil {
		return codeRow{}, err
	}
	switch {
	case !found:
		return codeRow{}, c.worthless(ctx, CodeUnknown)
	case database.Micros(now) >= row.Expires:
		return codeRow{}, c.worthless(ctx, CodeExpired)
	}
	return row, nil
}

// voided ends a transaction that a code cannot be used in after all, for a reason.
type voided string

func (v voided) Error() string { return "the code is void: " + string(v) }

// take uses a code up, within the transaction of ctx. Whoever comes second gets an
// error that [Connector.judged] knows.
func (c *Connector) take(ctx context.Context, row codeRow) error {
	taken, err := c.store.takeCode(ctx, row.Hash)
	if err == nil && !taken {
		return voided(CodeUsed)
	}
	return err
}

// judged puts on record, after a transaction, that a code was void in it.
func (c *Connector) judged(ctx context.Context, err error) error {
	var reason voided
	if errors.As(err, &reason) {
		return c.worthless(ctx, string(reason))
	}
	return err
}

// worthless puts a refused link on record, at most once a minute, and returns its error.
func (c *Connector) worthless(ctx context.Context, reason string) error {
	e := audit.Event{Name: "user-link-refused", Object: "user", Description: "Refused a link out of a mail", Rule: reason}
	if err := c.deny(ctx, e, c.throttle.refuse(&c.throttle.links)); err != nil {
		return err
	}
	return errs.Errorf(errs.Invalid, "the link is not good any more: it has been used, has expired or was replaced by a newer one. Ask for another")
}

// link returns the address of a page of the console that a code leads to.
func (c *Connector) link(path, code string) string {
	return c.console + path + "?code=" + url.QueryEscape(code)
}

// sweepEvery is how often what has expired is deleted, by whoever comes by.
const sweepEvery = time.Minute

func (c *Connector) sweep(ctx context.Context, now time.Time) error {
	last := c.swept.Load()
	if now.UnixMicro()-last < sweepEvery.Microseconds() || !c.swept.CompareAndSwap(last, now.UnixMicro()) {
		return nil
	}
	return c.store.sweep(ctx, now)
}
