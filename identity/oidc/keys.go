package oidc

import (
	"context"
	"errors"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// key is a public key that the provider signs with.
type key struct {
	jose.JSONWebKey
}

// keySet verifies signatures with the keys that the provider publishes (RFC 7517). Keys
// that a token brings along or points to are nobody's.
type keySet struct{ cached[[]key] }

var (
	errUnknownKey = errors.New("no key of the provider has this ID")
	errSignature  = errors.New("the signature is not of the provider's key")
)

// VerifySignature returns the payload of a token that one of the keys has signed. A key
// ID that is not known makes for a look at the provider's keys, within the bounds of
// [askEvery].
func (s *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	signed, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return nil, err
	}
	keys, err := s.get(ctx)
	if err != nil {
		return nil, keep(ctx, err)
	}
	payload, err := tryKeys(signed, keys)
	if !errors.Is(err, errUnknownKey) {
		return payload, keep(ctx, err)
	}
	if keys, err = s.renew(ctx); err != nil {
		return nil, keep(ctx, err)
	}
	payload, err = tryKeys(signed, keys)
	return payload, keep(ctx, err)
}

// tryKeys verifies a signature with the key that it names, or, when it names none, any.
func tryKeys(signed *jose.JSONWebSignature, keys []key) ([]byte, error) {
	header := signed.Signatures[0].Protected
	err := errUnknownKey
	for _, k := range keys {
		if header.KeyID != "" && k.KeyID != header.KeyID || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if payload, failed := signed.Verify(k.JSONWebKey); failed == nil {
			return payload, nil
		}
		if header.KeyID != "" {
			err = errSignature
		}
	}
	return nil, err
}

// go-oidc turns the errors of a key set into text, so they are handed past it.
type keptKey struct{}

func keeping(ctx context.Context) (context.Context, *error) {
	kept := new(error)
	return context.WithValue(ctx, keptKey{}, kept), kept
}

func keep(ctx context.Context, err error) error {
	if kept, ok := ctx.Value(keptKey{}).(*error); ok && err != nil {
		*kept = err
	}
	return err
}

// fetchKeys returns the provider's keys that ID tokens may be signed with. Others, and
// those of kinds that nobody here knows, are left out (RFC 7517 §5).
func (c *Connector) fetchKeys(ctx context.Context) ([]key, error) {
	m, err := c.metadata.get(ctx)
	if err != nil {
		return nil, err
	}
	body, err := c.read(ctx, m.Keys, "", "key set")
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := httpapi.Decode(body, &set); err != nil {
		return nil, refusal("oidc_discovery", "the provider's key set is not JSON as RFC 7517 has it")
	}
	var keys []key
	for _, raw := range set.Keys {
		var k key
		if err := k.UnmarshalJSON(raw); err != nil || !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
			continue
		}
		if k.Algorithm == "" || slices.Contains(algorithms, k.Algorithm) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
