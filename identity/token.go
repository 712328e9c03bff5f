package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// Token is a personal access token without its secret.
type Token struct {
	ID          string // public
	Description string
	Tail        string // the last 4 characters of the secret, which are a part of its checksum
	Created     time.Time
	Expires     time.Time // zero: never
	LastUsed    time.Time // to the minute; zero: never
	Revoked     time.Time // zero: not
}

// TokenRequest is what a token is made of.
type TokenRequest struct {
	Description string    // cleaned, and cut to 200 characters
	Expires     time.Time // zero: never; otherwise in the future, at most [MaxTokenLife] ahead
	Via         string    // how it was asked for, for the audit record: "api", "console", "cli-login"
	// Nonce makes it one token per nonce: a second request with the same one is
	// errs.Conflict, whoever makes it and however much later. Empty: no such check.
	Nonce string
}

// MaxTokenLife is how far ahead a token's expiry may lie: two years, leap day
// included, and a day for clocks and time zones.
const MaxTokenLife = (2*365 + 2) * 24 * time.Hour

// maxDescription bounds a token's description, in characters.
const maxDescription = 200

// The form of a token: the prefix, 32 random bytes as a number in base 62, and the
// CRC-32 (IEEE) of all of that, in base 62. Secret scanners find it by the prefix
// and dismiss look-alikes by the checksum; so do we, before the database is asked.
const (
	tokenPrefix   = "ipk_"
	tokenBody     = 43 // characters for 256 bits
	tokenChecksum = 6  // characters for 32 bits
	tokenLength   = len(tokenPrefix) + tokenBody + tokenChecksum
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// maxTokenBody is 2^256-1. The digits of base62 are in the order of their bytes, so
// bodies compare as strings.
var maxTokenBody = encode62(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)), tokenBody)

// encode62 writes n with exactly width digits.
func encode62(n *big.Int, width int) string {
	digits := make([]byte, width)
	rest, base, digit := new(big.Int).Set(n), big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		rest.DivMod(rest, base, digit)
		digits[i] = base62[digit.Int64()]
	}
	return string(digits)
}

func newToken() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	return formatToken(raw)
}

func formatToken(raw []byte) string {
	text := tokenPrefix + encode62(new(big.Int).SetBytes(raw), tokenBody)
	return text + checksum(text)
}

func checksum(text string) string {
	return encode62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text)))), tokenChecksum)
}

// parseToken returns the hash under which raw would be stored. There is exactly one
// spelling of a token: no other length, no white space, no prefix left out or
// changed, no number of more than 256 bits.
func parseToken(raw string) (hash [sha256.Size]byte, ok bool) {
	if len(raw) != tokenLength || !strings.HasPrefix(raw, tokenPrefix) {
		return hash, false
	}
	for i := len(tokenPrefix); i < len(raw); i++ {
		if !alphanumeric(raw[i]) {
			return hash, false
		}
	}
	text := raw[:tokenLength-tokenChecksum]
	if text[len(tokenPrefix):] > maxTokenBody || raw[len(text):] != checksum(text) {
		return hash, false
	}
	return sha256.Sum256([]byte(raw)), true
}

// CreateToken makes a token of p's user and returns it with its secret, which is not
// to be had again. A caller that authenticated with a token cannot make one that
// outlives it (errs.Forbidden), so a leaked token does not renew itself.
func (d *Directory) CreateToken(ctx context.Context, p Principal, r TokenRequest) (Token, string, error) {
	secret := newToken()
	hash, _ := parseToken(secret)
	token := Token{ID: uuid.NewString(), Description: clean(r.Description, maxDescription), Tail: secret[tokenLength-4:]}
	var nonce *string
	if r.Nonce != "" {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(r.Nonce)))
		nonce = &sum
	}
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		token.Created = now
		if token.Expires, err = tokenExpiry(r.Expires, now); err != nil {
			return err
		}
		if err := d.mayCreateToken(ctx, p, token, now); err != nil {
			return err
		}
		if err := d.store.insertToken(ctx, token, p.UserID, hash[:], nonce); err != nil {
			return err
		}
		return d.record(ctx, audit.Site, p.Event(audit.Event{
			Name: "personal-token-created", Object: "token:" + token.ID,
			Description: "Created personal access token " + quote(token.Description),
			Details:     facts("via", clean(r.Via, 50)),
			After:       facts("id", token.ID, "description", token.Description, "expires", stamp(token.Expires)),
		}))
	})
	if err != nil {
		return Token{}, "", err
	}
	return token, secret, nil
}

func tokenExpiry(expires, now time.Time) (time.Time, error) {
	if expires.IsZero() {
		return time.Time{}, nil
	}
	expires = expires.UTC().Truncate(time.Microsecond)
	if !expires.After(now) || expires.After(now.Add(MaxTokenLife)) {
		return time.Time{}, errs.Errorf(errs.Invalid, "a token's expiry lies in the future, at most two years ahead; 0 is for never")
	}
	return expires, nil
}

// mayCreateToken checks again, inside the transaction, what authentication has said
// of p, and that the new token does not outlive the one behind p.
func (d *Directory) mayCreateToken(ctx context.Context, p Principal, token Token, now time.Time) error {
	user, err := d.store.user(ctx, p.UserID)
	if err != nil {
		return err
	}
	if !user.Disabled.IsZero() {
		return refuseToken(UserDisabled, p)
	}
	if p.TokenID == "" {
		return nil
	}
	parent, err := d.store.token(ctx, p.UserID, p.TokenID)
	switch {
	case err != nil:
		return err
	case !parent.Revoked.IsZero():
		return refuseToken(TokenRevoked, p)
	case parent.Expires.IsZero():
		return nil
	case !parent.Expires.After(now):
		return refuseToken(TokenExpired, p)
	case token.Expires.IsZero() || token.Expires.After(parent.Expires):
		return errs.Errorf(errs.Forbidden, "a token that is made with a token cannot outlive it: choose an expiry up to %s, or make it in the console", stamp(parent.Expires))
	}
	return nil
}

func refuseToken(reason string, p Principal) error {
	return Refuse(reason, p, "the access token is not valid: log in again with a new one")
}

// AuthenticateToken returns the caller whose access token raw is. The error is a
// [Refusal] (errs.Unauthenticated), or errs.Unavailable when the database cannot
// say. It is one indexed read, and none for what has not the form of a token. The
// use is noted in memory and written down by [Directory.Run].
func (d *Directory) AuthenticateToken(ctx context.Context, raw string) (Principal, error) {
	hash, ok := parseToken(raw)
	if !ok {
		return Principal{}, refuseToken(TokenMalformed, Principal{})
	}
	row, found, err := d.store.tokenByHash(ctx, hash[:])
	if err != nil {
		return Principal{}, err
	}
	if !found {
		return Principal{}, refuseToken(TokenUnknown, Principal{})
	}
	p := row.Owner.principal()
	p.TokenID, p.TokenName = row.TokenID, row.Description
	switch {
	case row.Owner.Disabled != 0:
		return Principal{}, refuseToken(UserDisabled, p)
	case row.Revoked != 0:
		return Principal{}, refuseToken(TokenRevoked, p)
	case row.Expires != 0 && row.Owner.Now >= row.Expires:
		return Principal{}, refuseToken(TokenExpired, p)
	}
	d.use.note(row.TokenID, row.Owner.Now, row.LastUsed)
	return p, nil
}

// TokenFilter selects tokens of a list. Revoked ones are in none.
type TokenFilter string

// The filters.
const (
	ActiveTokens  TokenFilter = "active"
	ExpiredTokens TokenFilter = "expired"
	AllTokens     TokenFilter = "all"
)

// TokenQuery selects a page of a list of tokens.
type TokenQuery struct {
	Filter TokenFilter // ActiveTokens when empty
	Cursor string      // of the page before; "" for the first page
	Limit  int         // 0 is 100, more than 1000 is 1000
}

// Tokens returns a page of a user's tokens, the newest first, and the cursor of the
// next page, "" after the last one.
func (d *Directory) Tokens(ctx context.Context, userID string, q TokenQuery) ([]Token, string, error) {
	switch q.Filter {
	case "":
		q.Filter = ActiveTokens
	case ActiveTokens, ExpiredTokens, AllTokens:
	default:
		return nil, "", errs.Errorf(errs.Invalid, "tokens are filtered by %q, %q or %q", ActiveTokens, ExpiredTokens, AllTokens)
	}
	key, err := decodeCursor(q.Cursor, 2)
	if err != nil {
		return nil, "", err
	}
	now, err := d.store.clock(ctx)
	if err != nil {
		return nil, "", err
	}
	limit := pageSize(q.Limit)
	tokens, err := d.store.tokens(ctx, userID, q.Filter, database.Micros(now), key, limit+1)
	if err != nil || len(tokens) <= limit {
		return tokens, "", err
	}
	tokens = tokens[:limit]
	return tokens, encodeCursor(micros(tokens[limit-1].Created), tokens[limit-1].ID), nil
}

// RevokeToken makes one of p's tokens worthless from the next request on;
// errs.NotFound when p's user has no such token, or has revoked it.
func (d *Directory) RevokeToken(ctx context.Context, p Principal, id string) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		token, err := d.store.token(ctx, p.UserID, id)
		if err != nil {
			return err
		}
		revoked, err := d.store.revokeToken(ctx, p.UserID, id, now)
		if err != nil {
			return err
		}
		if !revoked {
			return errNoToken()
		}
		return d.record(ctx, audit.Site, p.Event(audit.Event{
			Name: "personal-token-deleted", Object: "token:" + id,
			Description: "Revoked personal access token " + quote(token.Description),
			Before:      facts("id", id, "description", token.Description, "expires", stamp(token.Expires)),
		}))
	})
}

func errNoToken() error { return errs.Errorf(errs.NotFound, "there is no such access token") }

func quote(text string) string { return `"` + text + `"` }

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// usage remembers when tokens were used, until it is written down.
type usage struct {
	mu sync.Mutex
	at map[string]int64 // token ID to microseconds
}

// maxUsage bounds the tokens whose use is remembered between two flushes. The use of
// one too many is not noted.
const maxUsage = 100_000

// note remembers a use, unless the row says that it was used within the same minute.
func (u *usage) note(id string, now, before int64) {
	if now < before+flushEvery.Microseconds() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, known := u.at[id]; known && last >= now || !known && len(u.at) >= maxUsage {
		return
	}
	u.at[id] = now
}

// take empties u.
func (u *usage) take() map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.at
	u.at = make(map[string]int64)
	return at
}

// Flush writes down which tokens were used when. What cannot be written is kept for
// the next time.
func (d *Directory) Flush(ctx context.Context) error {
	at := d.use.take()
	if len(at) == 0 {
		return nil
	}
	err := d.store.setLastUsed(ctx, at)
	if err != nil {
		for id, when := range at {
			d.use.note(id, when, 0)
		}
	}
	return err
}
