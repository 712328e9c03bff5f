// Package assertion carries who is calling, and for what, from the gate to a state
// service: a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037), good for one
// request and half a minute.
//
// The state service takes identity from nowhere else, so a request that has gone
// around the gate, or lost the header on the way, is refused.
package assertion

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ipuka/ipuka/internal/errs"
)

// Header carries the assertion. It is set by the gate only: the gate forwards no
// header of that name, and hop-by-hop rules cannot strip it.
const Header = "Ipuka-Assertion"

// Lifetime bounds how long an assertion is accepted.
const Lifetime = 30 * time.Second

// leeway allows for clocks that differ between the gate and a remote state service.
const leeway = 5 * time.Second

// Caller is who a request is made for. It is what a state service may show as the
// author of an update; what the caller may do has been decided before.
type Caller struct {
	ID    string // immutable
	Login string
	Name  string
	Token string // name of the access token behind the call, or empty
	// Granted are permissions on the stack of the call that the gate has decided
	// besides the one that the call itself needs. It is for the one call whose need
	// only the state service knows: starting an update needs stack:write unless it
	// was created as a preview, and may change tags with stack_tags:update only.
	Granted []string
}

type claims struct {
	jwt.RegisteredClaims
	Login   string   `json:"login"`
	Name    string   `json:"name,omitempty"`
	Token   string   `json:"token,omitempty"`
	Granted []string `json:"granted,omitempty"`
	Method  string   `json:"htm"`
	Path    string   `json:"htu"`
}

// Signer signs for one audience. It is safe for concurrent use.
type Signer struct {
	key      ed25519.PrivateKey
	audience string
}

// NewSigner returns a signer for the state service that calls itself audience.
func NewSigner(key ed25519.PrivateKey, audience string) *Signer {
	return &Signer{key: key, audience: audience}
}

// Sign sets r's assertion for caller, bound to r's method, its path and requestID.
func (s *Signer) Sign(r *http.Request, caller Caller, requestID string) error {
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Audience: jwt.ClaimStrings{s.audience}, Subject: caller.ID, ID: requestID,
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(Lifetime)),
		},
		Login: caller.Login, Name: caller.Name, Token: caller.Token, Granted: caller.Granted,
		Method: r.Method, Path: r.URL.EscapedPath(),
	}).SignedString(s.key)
	if err != nil {
		return err
	}
	r.Header.Set(Header, token)
	return nil
}

// Verifier checks the assertions of one gate. It is safe for concurrent use.
type Verifier struct {
	key    ed25519.PublicKey
	parser *jwt.Parser
}

// NewVerifier returns a verifier for the state service that calls itself audience.
func NewVerifier(key ed25519.PublicKey, audience string) *Verifier {
	return &Verifier{key: key, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway))}
}

// Verify returns the caller and the request ID that r's assertion names. Without
// exactly one valid assertion for this method and path it is errs.Unauthenticated.
func (v *Verifier) Verify(r *http.Request) (Caller, string, error) {
	values := r.Header.Values(Header)
	if len(values) != 1 {
		return Caller{}, "", refuse(errors.New("not exactly one assertion"))
	}
	var c claims
	if _, err := v.parser.ParseWithClaims(values[0], &c, func(*jwt.Token) (any, error) { return v.key, nil }); err != nil {
		return Caller{}, "", refuse(err)
	}
	if c.Method != r.Method || c.Path != r.URL.EscapedPath() || c.Subject == "" {
		return Caller{}, "", refuse(errors.New("the assertion is for another request"))
	}
	return Caller{ID: c.Subject, Login: c.Login, Name: c.Name, Token: c.Token, Granted: c.Granted}, c.ID, nil
}

func refuse(cause error) error {
	return errs.Wrap(errs.Unauthenticated, cause, "this service takes requests from its gate only")
}
