package saml

import (
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"net/url"
	"time"

	"github.com/beevik/etree"

	"github.com/ipuka/ipuka/identity"
)

// What the clocks of two machines may differ by, and how old a response may be.
const (
	maxSkew  = 3 * time.Minute // of NotBefore and NotOnOrAfter
	maxAge   = 5 * time.Minute // since IssueInstant
	maxAhead = 2 * time.Minute // of IssueInstant
)

// verifier judges responses. It is all that a response is judged by: bytes, a clock and
// this.
type verifier struct {
	connector  string // that refusals are recorded for
	entityID   string // ours, the audience
	acs        string // ours, the recipient
	issuer     string // entity ID of the identity provider
	validUntil time.Time
	// certificates are the only keys that count.
	certificates []*x509.Certificate
	nameIDFormat string // that is asked for; "" for either
	attributes   AttributeMap
	domains      []string // whose addresses the identity provider vouches for
	idpInitiated bool
	// decryption returns the key for encrypted assertions; nil: there may be none.
	decryption func() (*rsa.PrivateKey, error)
}

// verify returns who signed in, or why nobody did. It changes nothing: that a response
// comes once only is for [identity.External.Once]. In the order of what is cheapest for
// us and tells an attacker least:
//
//  1. size, base64, a scan of the tokens, a round trip, and only then a tree;
//  2. one response with one assertion, nothing of them twice, signatures of one shape;
//  3. the signatures, with pinned keys;
//  4. what the signed parts say, read from the bytes that were digested.
func (v verifier) verify(form url.Values, f identity.Flow, now time.Time) (x identity.External, refusal *identity.Refusal) {
	defer func() {
		// Libraries for signatures and XML have panicked on what a stranger sent.
		if recover() != nil {
			x, refusal = identity.External{}, v.refusal(refuse("saml_structure", "the response could not be read"))
		}
	}()
	x, err := v.judge(form, f, now)
	if err != nil {
		return identity.External{}, v.refusal(err)
	}
	return x, nil
}

func (v verifier) refusal(err error) *identity.Refusal {
	why := &refused{reason: "saml_structure", detail: "the response could not be read"}
	errors.As(err, &why)
	r := identity.Refuse(why.reason, identity.Principal{Connector: v.connector}, "the sign-in did not work")
	r.Detail = why.detail
	return r
}

func (v verifier) judge(form url.Values, f identity.Flow, now time.Time) (identity.External, error) {
	if err := v.checkFlow(form, f); err != nil {
		return identity.External{}, err
	}
	if !v.validUntil.IsZero() && !now.Before(v.validUntil) {
		return identity.External{}, refuse("saml_certificate", "the identity provider's descriptor was valid until %s: upload the current one", date(v.validUntil))
	}
	raw, err := decode(form.Get("SAMLResponse"))
	if err != nil {
		return identity.External{}, err
	}
	root, err := parse(raw)
	if err != nil {
		return identity.External{}, err
	}
	m, err := examine(root)
	if err != nil {
		return identity.External{}, err
	}
	response, assertion, err := v.believe(m, now)
	if err != nil {
		return identity.External{}, err
	}
	c := check{verifier: v, flow: f, now: now}
	if err := c.response(response, m.responseSignature != nil); err != nil {
		return identity.External{}, err
	}
	return c.assertion(assertion)
}

// checkFlow compares the form with the flow that it should belong to.
func (v verifier) checkFlow(form url.Values, f identity.Flow) error {
	relay := form["RelayState"]
	if len(form["SAMLResponse"]) != 1 || len(relay) > 1 {
		return refuse("saml_structure", "the identity provider sent no SAMLResponse, or more than one")
	}
	if f.Request != "" {
		if len(relay) != 1 || f.State == "" || subtle.ConstantTimeCompare([]byte(relay[0]), []byte(f.State)) != 1 {
			return refuse("saml_unsolicited", "the RelayState is not the one that was sent to the identity provider")
		}
		return nil
	}
	if !v.idpInitiated {
		return refuse("saml_unsolicited", "nobody asked for this sign-in: signing in from the identity provider's own pages is off for this organization")
	}
	// A RelayState from elsewhere is never an address to go to (open redirect).
	if len(relay) == 1 && relay[0] != "" && relay[0] != "cli" {
		return refuse("saml_unsolicited", "the RelayState of a sign-in that began at the identity provider is empty")
	}
	return nil
}

// believe returns the response and the assertion as far as signatures cover them. The
// assertion always is covered; the response only when it is signed itself.
func (v verifier) believe(m message, now time.Time) (response, assertion *etree.Element, err error) {
	response = m.response
	signed := m.responseSignature != nil
	if signed {
		if response, err = v.verified(m.response, m.responseSignature, now); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case m.encrypted != nil:
		if assertion, err = v.decrypted(response, signed, now); err != nil {
			return nil, nil, err
		}
	case m.assertionSignature != nil:
		if assertion, err = v.verified(m.assertion, m.assertionSignature, now); err != nil {
			return nil, nil, err
		}
	case signed:
		if assertion, err = only(response, assertionNS, "Assertion"); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, errUnsigned()
	}
	return response, assertion, nil
}

func errUnsigned() error {
	return refuse("saml_signature", "neither the response nor the assertion is signed: let the identity provider sign assertions")
}

// decrypted returns the assertion in the EncryptedAssertion of a response. Anybody can
// encrypt for us, so that what comes out is judged like what comes in.
func (v verifier) decrypted(response *etree.Element, signed bool, now time.Time) (*etree.Element, error) {
	if v.decryption == nil {
		return nil, refuse("saml_encrypted", "the assertion is encrypted, which is off for this organization: turn it on here, or encryption off at the identity provider")
	}
	outer, err := only(response, assertionNS, "EncryptedAssertion")
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(outer, v.decryption)
	if err != nil {
		return nil, err
	}
	root, err := parse(plain)
	if err != nil {
		return nil, err
	}
	if !is(root, assertionNS, "Assertion") {
		return nil, refuse("saml_structure", "what is encrypted is no assertion")
	}
	if err := singular(root); err != nil {
		return nil, err
	}
	signature, err := signatureOf(root)
	if err != nil {
		return nil, err
	}
	if signature != nil {
		return v.verified(root, signature, now)
	}
	if !signed {
		return nil, errUnsigned()
	}
	return root, nil
}

func date(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 MST") }
