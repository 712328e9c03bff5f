package saml_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

// Somebody else's identity provider, with another XML library, takes our requests, and
// we its responses.
func TestSimpleSAMLphp(t *testing.T) {
	idp := samltest.Start(t)
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{AllowEncrypted: ptr(true)})
	ours := w.ours(t, "acme")
	descriptor := idp.Descriptor(t)
	s := w.configure(t, "o1", saml.Change{Descriptor: &descriptor, Domains: &[]string{"acme.test"}})
	if s.IdPEntityID != idp.EntityID {
		t.Fatalf("%+v", s)
	}
	for _, c := range []struct {
		name   string
		change func(sp *samltest.SP)
		format string
		reason string
	}{
		{"both signed", func(sp *samltest.SP) { sp.SignResponse, sp.SignAssertion = true, true }, saml.Persistent, ""},
		{"assertion signed", func(sp *samltest.SP) { sp.SignAssertion = true }, saml.Persistent, ""},
		{"response signed", func(sp *samltest.SP) { sp.SignResponse = true }, saml.Persistent, ""},
		{"by email address", func(sp *samltest.SP) { sp.SignAssertion = true }, saml.EmailAddress, ""},
		{"nothing signed", func(sp *samltest.SP) {}, saml.Persistent, "saml_signature"},
		{"encrypted and signed", func(sp *samltest.SP) { sp.SignAssertion, sp.Encrypt, sp.GCM = true, true, true }, saml.Persistent, ""},
		{"encrypted, all signed", func(sp *samltest.SP) { sp.SignResponse, sp.SignAssertion, sp.Encrypt, sp.GCM = true, true, true, true }, saml.Persistent, ""},
		{"encrypted, response signed", func(sp *samltest.SP) { sp.SignResponse, sp.Encrypt, sp.GCM = true, true, true }, saml.Persistent, ""},
		{"encrypted in CBC mode", func(sp *samltest.SP) { sp.SignAssertion, sp.Encrypt = true, true }, saml.Persistent, "saml_encrypted"},
		{"encrypted, nothing signed", func(sp *samltest.SP) { sp.Encrypt, sp.GCM = true, true }, saml.Persistent, "saml_signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.now = time.Now().UTC()
			sp := samltest.SP{EntityID: entityID, ACS: acs, Signing: ours["signing"], Encryption: ours["encryption"]}
			c.change(&sp)
			idp.Register(t, sp)
			w.configure(t, "o1", saml.Change{NameIDFormat: &c.format})
			f := w.flow()
			to, err := w.connector(t, "o1").Begin(t.Context(), f)
			ok(t, err)
			page := samltest.NewBrowser(t, "alice", "alice-pw").Walk(t, to.URL, to.Form)
			if page.URL != acs {
				t.Errorf("posted to %s", page.URL)
			}
			w.now = time.Now().UTC()
			x, err := w.connector(t, "o1").Finish(t.Context(), f, identity.Response{Method: http.MethodPost, Values: page.Form})
			if c.reason != "" {
				reason(t, err, c.reason)
				return
			}
			if err != nil {
				detail(t, err)
			}
			subject := map[string]string{saml.Persistent: "alice", saml.EmailAddress: "alice@acme.test"}[c.format]
			if x.Subject != subject || x.Login != "alice" || x.Email != "alice@acme.test" || !x.EmailVerified || x.Name != "Alice A" ||
				!slices.Equal(ids(x.Groups), []string{"platform", "admins"}) || x.Expires.IsZero() {
				t.Errorf("%+v", x)
			}
		})
	}
}

// The same browser is known there by now: only ForceAuthn has it ask again.
func TestSimpleSAMLphpFresh(t *testing.T) {
	idp := samltest.Start(t)
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	descriptor := idp.Descriptor(t)
	w.configure(t, "o1", saml.Change{Descriptor: &descriptor})
	idp.Register(t, samltest.SP{EntityID: entityID, ACS: acs, Signing: w.ours(t, "acme")["signing"], SignAssertion: true})
	browser := samltest.NewBrowser(t, "bob", "bob-pw")
	for _, c := range []struct {
		password string
		fresh    bool
	}{{"bob-pw", false}, {"not asked for", false}, {"bob-pw", true}} {
		w.now = time.Now().UTC()
		browser.Password = c.password
		f := w.flow()
		f.Fresh = c.fresh
		to, err := w.connector(t, "o1").Begin(t.Context(), f)
		ok(t, err)
		page := browser.Walk(t, to.URL, to.Form)
		x, err := w.connector(t, "o1").Finish(t.Context(), f, identity.Response{Method: http.MethodPost, Values: page.Form})
		if err != nil {
			detail(t, err)
		}
		if x.Subject != "bob" {
			t.Errorf("%+v", x)
		}
	}
	// It does look at our signature.
	known := w.ours(t, "acme")["signing"]
	idp.Register(t, samltest.SP{EntityID: entityID, ACS: acs, Signing: samltest.NewSigner(t, issuer, 1).Certificate, SignAssertion: true})
	to, err := w.connector(t, "o1").Begin(t.Context(), w.flow())
	ok(t, err)
	if page, err := browser.Try(to.URL, to.Form); err == nil {
		t.Errorf("a request with a wrong signature was answered: %v", page.URL)
	}
	idp.Register(t, samltest.SP{EntityID: entityID, ACS: acs, Signing: known, SignAssertion: true})

	// Started there, without a request of ours.
	page := browser.Walk(t, idp.URL+"/saml2/idp/SSOService.php?spentityid="+url.QueryEscape(entityID), nil)
	response := identity.Response{Method: http.MethodPost, Values: page.Form}
	_, err = w.connector(t, "o1").Finish(t.Context(), identity.Flow{}, response)
	reason(t, err, "saml_unsolicited")
	w.configure(t, "o1", saml.Change{AllowIdPInitiated: ptr(true)})
	x, err := w.connector(t, "o1").Finish(t.Context(), identity.Flow{}, response)
	if err != nil {
		detail(t, err)
	}
	if x.Subject != "bob" || len(x.Once) != 1 {
		t.Errorf("%+v", x)
	}
}
