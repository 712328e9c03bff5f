package oidc

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	maxAge     = 10 * time.Minute // of an ID token
	leeway     = time.Minute      // between two clocks
	maxToken   = 256 << 10
	maxSubject = 255 // Core §2
)

// verify returns the claims of an ID token that counts (Core §3.1.3.7), but for what
// is up to the flow.
func (c *Connector) verify(ctx context.Context, raw, accessToken string) (claims, error) {
	if len(raw) > maxToken {
		return nil, refusal("oidc_malformed", "the ID token is larger than %d bytes", maxToken)
	}
	if err := checkHeader(raw); err != nil {
		return nil, err
	}
	ctx, kept := keeping(ctx)
	token, err := c.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, c.explain(raw, err, *kept)
	}
	var text jsontext.Value
	if err := token.Claims(&text); err != nil {
		return nil, refusal("oidc_malformed", "the claims of the ID token are not JSON")
	}
	all, err := decodeClaims(text)
	if err != nil {
		return nil, err
	}
	return all, c.check(all, token, accessToken)
}

// checkHeader admits what an ID token says of itself before anything is done with it.
func checkHeader(raw string) error {
	part, _, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	var header struct {
		Algorithm string         `json:"alg"`
		Type      string         `json:"typ"`
		Critical  jsontext.Value `json:"crit"`
	}
	if err != nil || httpapi.Decode(text, &header) != nil || strings.Count(raw, ".") != 2 {
		return refusal("oidc_malformed", "the ID token is not a signed JWT")
	}
	if !slices.Contains(algorithms, header.Algorithm) {
		return refusal("oidc_algorithm", "the ID token is signed with %s, and must be with one of %s", shown(header.Algorithm), strings.Join(algorithms, ", "))
	}
	if kind := strings.TrimPrefix(strings.ToLower(header.Type), "application/"); kind != "" && kind != "jwt" {
		return refusal("oidc_type", "the provider's token response has a token of type %s where the ID token should be", shown(header.Type))
	}
	if header.Critical != nil {
		return refusal("oidc_malformed", "the ID token has extensions that must be understood, and are not")
	}
	return nil
}

// explain finds words for the error of go-oidc, which has refused the token.
func (c *Connector) explain(raw string, err, kept error) error {
	if p, ok := errors.AsType[*problem](kept); ok {
		return p
	}
	switch {
	case errors.Is(kept, errUnknownKey):
		return refusal("oidc_key", "the ID token is signed with a key that the provider does not publish")
	case errors.Is(kept, errSignature):
		return refusal("oidc_signature", "the signature of the ID token is wrong")
	case kept != nil:
		return refusal("oidc_malformed", "the ID token is not a signed JWT")
	}
	part := strings.Split(raw, ".")[1]
	text, decodeErr := base64.RawURLEncoding.DecodeString(part)
	all, claimsErr := decodeClaims(text)
	if decodeErr != nil || claimsErr != nil {
		return refusal("oidc_malformed", "the claims of the ID token are not JSON, or some are there twice")
	}
	if issuer := all.text("iss"); issuer != c.config.Issuer {
		return refusal("oidc_issuer", "the ID token is of the issuer %s, not %s", shown(issuer), c.config.Issuer)
	}
	if audience := all.list("aud"); !slices.Contains(audience, c.config.ClientID) {
		return refusal("oidc_audience", "the ID token is for the client %s, not %s", shown(strings.Join(audience, ", ")), c.config.ClientID)
	}
	now := c.config.Now()
	if expired, ok := errors.AsType[*gooidc.TokenExpiredError](err); ok {
		if _, ok := all.time("exp"); !ok {
			return refusal("oidc_expired", "the ID token has no time of expiry")
		}
		return refusal("oidc_expired", "the ID token expired %s ago by this server's clock: do the clocks differ?", now.Sub(expired.Expiry).Round(time.Second))
	}
	if begins, ok := all.time("nbf"); ok && begins.After(now) {
		return refusal("oidc_not_yet", "the ID token counts only in %s by this server's clock: the clocks differ", begins.Sub(now).Round(time.Second))
	}
	return refusal("oidc_malformed", "the claims of the ID token are not of the types that they must have")
}

// check looks at what go-oidc leaves to its callers.
func (c *Connector) check(all claims, token *gooidc.IDToken, accessToken string) error {
	if sub := all.text("sub"); sub == "" || len(sub) > maxSubject || sub != token.Subject || shown(sub) == "" {
		return refusal("oidc_subject", "the ID token has no subject, or one of more than %d bytes", maxSubject)
	}
	// Core §3.1.3.7, 4 and 5: a token for several is for us only when we have asked for it.
	if party, there := all["azp"]; there && party != c.config.ClientID {
		return refusal("oidc_authorized_party", "the ID token was issued to the client %s, not %s", shown(all.text("azp")), c.config.ClientID)
	} else if !there && len(token.Audience) > 1 {
		return refusal("oidc_authorized_party", "the ID token is for several clients (%s), and does not say which has asked for it (azp)", shown(strings.Join(token.Audience, ", ")))
	}
	issued, ok := all.time("iat")
	now := c.config.Now()
	switch {
	case !ok:
		return refusal("oidc_issued_at", "the ID token does not say when it was issued (iat)")
	case issued.After(now.Add(leeway)):
		return refusal("oidc_issued_at", "the ID token was issued in the future: the clock differs by %s", issued.Sub(now).Round(time.Second))
	case issued.Before(now.Add(-maxAge - leeway)):
		return refusal("oidc_issued_at", "the ID token was issued %s ago: it is an old one, or the clock differs", now.Sub(issued).Round(time.Second))
	}
	if _, there := all["at_hash"]; there && token.VerifyAccessToken(accessToken) != nil {
		return refusal("oidc_access_token_hash", "the ID token belongs to another access token (at_hash)")
	}
	return nil
}

// checkFlow ties an ID token to the flow of a browser.
func (c *Connector) checkFlow(all claims, f identity.Flow) error {
	if nonce := all.text("nonce"); f.Nonce == "" || !same(nonce, f.Nonce) {
		return refusal("oidc_nonce", "the ID token belongs to another sign-in: its nonce is missing or not that of this browser")
	}
	if !f.Fresh {
		return nil
	}
	// With max_age the claim is required (Core §3.1.2.1). The flow began at most
	// FlowLife before it ends.
	at, ok := all.time("auth_time")
	if !ok {
		return refusal("oidc_not_fresh", "the provider does not say when the person has signed in there (auth_time), which was asked for")
	}
	if at.Before(f.Expires.Add(-identity.FlowLife - leeway)) {
		return refusal("oidc_not_fresh", "the provider did not ask the person to sign in again")
	}
	return nil
}
