package saml_test

import (
	"encoding/base64"
	"net/url"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
)

const (
	console  = "https://ipuka.example.test"
	entityID = console + "/login/acme/sso/saml/metadata"
	acs      = console + "/login/acme/sso/saml/acs"
	issuer   = "https://idp.example.test/metadata"
	request  = "_4c7a1c0ffee"
	state    = "IQxQyYpE7Ck3bTz0u4mU1oYzqk0sV9a8b7c6d5e4f3g"
)

// bed is a verifier with the identity provider that it believes in.
type bed struct {
	verifier saml.Verifier
	t        testing.TB
	idp      *samltest.Signer
	other    *samltest.Signer // nobody has heard of
	now      time.Time
	flow     identity.Flow
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, other: samltest.NewSigner(t, issuer, 1), idp: samltest.NewSigner(t, issuer, 0), now: time.Now().UTC().Truncate(time.Second)}
	b.verifier = saml.Verifier{EntityID: entityID, ACS: acs, Issuer: issuer, Domains: []string{"acme.test"}}
	b.verifier.Certificates = append(b.verifier.Certificates, b.idp.Certificate)
	b.flow = identity.Flow{State: state, Request: request, Expires: b.now.Add(identity.FlowLife)}
	return b
}

// answer is a right one, in one of the layouts that identity providers sign in.
func (b *bed) answer(layout string) samltest.Answer {
	return samltest.Answer{
		Audience: entityID, ACS: acs, InResponseTo: request, NameID: "alice", Format: samltest.Persistent, Now: b.now,
		Attributes:   [][]string{{"mail", "Alice@acme.test"}, {"displayName", "Alice A"}, {"groups", "platform", "admins"}},
		SignResponse: layout != "assertion", SignAssertion: layout != "response",
	}
}

var layouts = []string{"response", "assertion", "both"}

func (b *bed) verify(encoded string) (identity.External, *identity.Refusal) {
	return b.verifier.Verify(url.Values{"SAMLResponse": {encoded}, "RelayState": {b.flow.State}}, b.flow, b.now)
}

func (b *bed) verifyXML(raw string) (identity.External, *identity.Refusal) {
	return b.verify(base64.StdEncoding.EncodeToString([]byte(raw)))
}

func text(t testing.TB, d *etree.Document) string {
	t.Helper()
	s, err := d.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerify(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			b := newBed(t)
			x, refusal := b.verify(b.idp.Response(t, b.answer(layout)))
			if refusal != nil {
				t.Fatal(refusal, refusal.Detail)
			}
			if x.Subject != "alice" || x.Email != "alice@acme.test" || !x.EmailVerified || x.Name != "Alice A" || len(x.Groups) != 2 || len(x.Once) != 2 {
				t.Errorf("%+v", x)
			}
		})
	}
}
