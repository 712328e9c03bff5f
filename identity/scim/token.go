package scim

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"hash/crc32"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// Token is the token of an organization's identity provider without its secret.
type Token struct {
	ID       string // public
	Tail     string // the last 4 characters of the secret, which are a part of its checksum
	By       string // login of who made it; "" for Ipuka itself
	Created  time.Time
	LastUsed time.Time // to the minute; zero: never
}

// The form of a token: the prefix, 32 random bytes as a number in base 62, and the
// CRC-32 (IEEE) of all of that, in base 62. It is the form of a personal access token
// with another prefix.
const (
	tokenPrefix   = "ipks_"
	tokenBody     = 43 // characters for 256 bits
	tokenChecksum = 6  // characters for 32 bits
	tokenLength   = len(tokenPrefix) + tokenBody + tokenChecksum
)

// tokenName is what the token is called in the records of what was done with it.
const tokenName = "SCIM token"

// useEvery is how exactly the last use of a token is noted.
const useEvery = time.Minute

// The reasons of a refused request, as they stand in the audit record.
const (
	TokenMissing        = "token_missing" // no Authorization: Bearer
	TokenMalformed      = identity.TokenMalformed
	TokenUnknown        = identity.TokenUnknown
	OrganizationUnknown = "organization_unknown"
)

func encode62(n *big.Int, width int) string {
	text := n.Text(62) // 0-9a-zA-Z
	return strings.Repeat("0", max(0, width-len(text))) + text
}

func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	text := tokenPrefix + encode62(new(big.Int).SetBytes(raw), tokenBody)
	return text + checksum(text)
}

func checksum(text string) string {
	return encode62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text)))), tokenChecksum)
}

// wellFormed reports whether raw has the form of a token. What has not is not looked up.
func wellFormed(raw string) bool {
	return len(raw) == tokenLength && strings.HasPrefix(raw, tokenPrefix) &&
		raw[tokenLength-tokenChecksum:] == checksum(raw[:tokenLength-tokenChecksum])
}

// NewToken makes the token of an organization and returns its secret, which is not to
// be had again. The one before, if there is any, is worthless from the next request on.
// The caller has decided that actor may.
func (h *Handler) NewToken(ctx context.Context, actor identity.Principal, organizationID string) (string, error) {
	secret := newSecret()
	hash := sha256.Sum256([]byte(secret))
	row := tokenRow{
		OrganizationID: organizationID, ID: uuid.NewString(), Hash: hash[:], Tail: secret[tokenLength-4:], CreatedBy: actor.Login,
	}
	err := h.db.Tx(ctx, func(ctx context.Context) error {
		now, err := h.store.clock(ctx)
		if err != nil {
			return err
		}
		row.Created = database.Micros(now)
		if err := h.store.putToken(ctx, row); err != nil {
			return err
		}
		return h.record(ctx, organizationID, actor.Did(audit.Event{
			Name: "scim-token-created", Object: "token:" + row.ID, Decision: audit.Allow,
			Description: "Created the SCIM token, which replaces any before", After: map[string]string{"id": row.ID},
		}))
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// Token returns the token of an organization; errs.NotFound without one.
func (h *Handler) Token(ctx context.Context, organizationID string) (Token, error) {
	row, err := h.store.token(ctx, organizationID)
	if err != nil {
		return Token{}, err
	}
	return row.token(), nil
}

// RevokeToken makes the token of an organization worthless from the next request on;
// errs.NotFound without one. Accounts and teams stay as they are.
func (h *Handler) RevokeToken(ctx context.Context, actor identity.Principal, organizationID string) error {
	return h.db.Tx(ctx, func(ctx context.Context) error {
		row, err := h.store.token(ctx, organizationID)
		if err != nil {
			return err
		}
		if err := h.store.deleteToken(ctx, organizationID); err != nil {
			return err
		}
		return h.record(ctx, organizationID, actor.Did(audit.Event{
			Name: "scim-token-deleted", Object: "token:" + row.ID, Decision: audit.Allow,
			Description: "Revoked the SCIM token", Before: map[string]string{"id": row.ID},
		}))
	})
}

func errNoToken() error { return errs.Errorf(errs.NotFound, "the organization has no SCIM token") }

func (h *Handler) record(ctx context.Context, log string, e audit.Event) error {
	_, err := h.audit.AppendDone(ctx, log, e, audit.Outcome{Result: audit.Succeeded})
	return err
}

// authenticate returns the call of whoever has the token of the organization with a
// name. Every refusal has the same answer and is on record, once, with its reason.
func (h *Handler) authenticate(r *http.Request, name string) (*call, error) {
	ctx := r.Context()
	o, err := h.directory.Organization(ctx, name)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, h.refused(ctx, o, TokenMissing)
	}
	if secret = strings.TrimSpace(secret); !wellFormed(secret) {
		return nil, h.refused(ctx, o, TokenMalformed)
	}
	row, err := h.store.token(ctx, o.ID) // of nobody, when there is no such organization
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], row.Hash) != 1 {
		if o.ID == "" {
			return nil, h.refused(ctx, o, OrganizationUnknown)
		}
		return nil, h.refused(ctx, o, TokenUnknown)
	}
	now, err := h.store.clock(ctx)
	if err != nil {
		return nil, err
	}
	if now.Sub(database.Time(row.LastUsed)) >= useEvery {
		if err := h.store.useToken(ctx, row.ID, now); err != nil {
			return nil, err
		}
	}
	return &call{
		Handler: h, organization: o, base: h.base + o.Login,
		actor: identity.Principal{Connector: Connector, TokenID: row.ID, TokenName: tokenName},
	}, nil
}

// refused puts a refusal on record, in the log of the organization that there is, and
// returns its error. What stood in the place of a token is not recorded.
func (h *Handler) refused(ctx context.Context, o identity.Organization, reason string) error {
	log, object := audit.Site, "scim"
	if o.ID != "" {
		log, object = o.ID, o.Login
	}
	e := identity.Principal{Connector: Connector}.Event(audit.Event{
		Name: "auth-failure-scim-access-token", Object: object, Description: "Refused a SCIM request without the organization's token",
		Decision: audit.Deny, Rule: reason,
	})
	if _, err := h.audit.AppendDone(ctx, log, e, audit.Outcome{Result: audit.Failed, Status: http.StatusUnauthorized}); err != nil {
		return err
	}
	return identity.Refuse(reason, identity.Principal{}, "the SCIM token is not valid for this organization")
}
