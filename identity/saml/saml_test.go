package saml_test

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	crewjam "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func (w *world) connector(t testing.TB, id string) identity.Connector {
	t.Helper()
	c, err := w.Connector(t.Context(), id)
	ok(t, err)
	return c
}

func (w *world) flow() identity.Flow {
	return identity.Flow{State: state, Request: request, Expires: w.now.Add(identity.FlowLife)}
}

// ours returns the certificates of our metadata, by use.
func (w *world) ours(t testing.TB, login string) map[string]*x509.Certificate {
	t.Helper()
	raw, err := w.Metadata(t.Context(), login)
	ok(t, err)
	d := etree.NewDocument()
	ok(t, d.ReadFromBytes(raw))
	found := make(map[string]*x509.Certificate)
	for _, k := range d.FindElements("//KeyDescriptor") {
		der, err := base64.StdEncoding.DecodeString(k.FindElement(".//X509Certificate").Text())
		ok(t, err)
		found[k.SelectAttrValue("use", "")], err = x509.ParseCertificate(der)
		ok(t, err)
	}
	return found
}

func TestRedirectRequest(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
	f := w.flow()
	f.Fresh = true
	to, err := w.connector(t, "o1").Begin(t.Context(), f)
	ok(t, err)
	if !strings.HasPrefix(to.URL, sso+"&SAMLRequest=") || to.Form != nil {
		t.Fatalf("%+v", to)
	}
	u, err := url.Parse(to.URL)
	ok(t, err)
	// The signature is over the text of the address and not over what it means.
	_, signed, _ := strings.Cut(u.RawQuery, "&")
	signed, signature, _ := strings.Cut(signed, "&Signature=")
	signature, err = url.QueryUnescape(signature)
	ok(t, err)
	value, err := base64.StdEncoding.DecodeString(signature)
	ok(t, err)
	sum := sha256.Sum256([]byte(signed))
	ok(t, rsa.VerifyPKCS1v15(w.ours(t, "acme")["signing"].PublicKey.(*rsa.PublicKey), crypto.SHA256, sum[:], value))
	q := u.Query()
	if q.Get("RelayState") != state || q.Get("SigAlg") != "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" || q.Get("tenant") != "1" {
		t.Errorf("%v", q)
	}
	deflated, err := base64.StdEncoding.DecodeString(q.Get("SAMLRequest"))
	ok(t, err)
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(deflated)))
	ok(t, err)
	d := etree.NewDocument()
	ok(t, d.ReadFromBytes(raw))
	asked(t, w, d.Root(), sso)
	if d.Root().SelectAttrValue("ForceAuthn", "") != "true" || d.Root().SelectElement("Signature") != nil {
		t.Errorf("%s", raw)
	}
}

func asked(t *testing.T, w *world, r *etree.Element, destination string) {
	t.Helper()
	for key, want := range map[string]string{
		"ID": request, "Version": "2.0", "Destination": destination, "AssertionConsumerServiceURL": acs, "ProtocolBinding": samltest.POST,
	} {
		if got := r.SelectAttrValue(key, ""); got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	if r.SelectElement("Issuer").Text() != entityID || r.SelectElement("NameIDPolicy").SelectAttrValue("Format", "") != saml.Persistent {
		t.Error("issuer or name ID policy")
	}
	at, err := time.Parse(time.RFC3339, r.SelectAttrValue("IssueInstant", ""))
	if err != nil || w.now.Sub(at).Abs() > time.Second {
		t.Errorf("issued at %v", at)
	}
}

func TestPostRequest(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{Descriptor: ptr(w.idp.Descriptor("https://idp.example.test/sso", samltest.POST))})
	to, err := w.connector(t, "o1").Begin(t.Context(), w.flow())
	ok(t, err)
	if to.URL != "https://idp.example.test/sso" || to.Form.Get("RelayState") != state {
		t.Fatalf("%+v", to)
	}
	raw, err := base64.StdEncoding.DecodeString(to.Form.Get("SAMLRequest"))
	ok(t, err)
	d := etree.NewDocument()
	ok(t, d.ReadFromBytes(raw))
	verified, err := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{w.ours(t, "acme")["signing"]}}).Validate(d.Root())
	ok(t, err)
	asked(t, w, verified, to.URL)
	if strings.Contains(string(raw), "ForceAuthn") {
		t.Errorf("%s", raw)
	}
	_, err = w.connector(t, "o1").Begin(t.Context(), identity.Flow{State: state})
	if err == nil {
		t.Error("a flow without a request")
	}
	_, err = w.connector(t, "o1").Begin(t.Context(), identity.Flow{State: strings.Repeat("s", 81), Request: request})
	if err == nil {
		t.Error("a RelayState of 81 bytes")
	}
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{})
	if c := w.ours(t, "acme"); len(c) != 1 || c["signing"] == nil {
		t.Errorf("%v", c)
	}
	w.configure(t, "o1", saml.Change{AllowEncrypted: ptr(true)})
	ours := w.ours(t, "acme-inc")
	if len(ours) != 2 || ours["signing"].PublicKey.(*rsa.PublicKey).Equal(ours["encryption"].PublicKey) {
		t.Errorf("%v", ours)
	}
	if years := ours["signing"].NotAfter.Sub(w.now).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("valid for %v years", years)
	}
	raw, err := w.Metadata(t.Context(), "acme")
	ok(t, err)
	d := etree.NewDocument()
	ok(t, d.ReadFromBytes(raw))
	role := d.Root().SelectElement("SPSSODescriptor")
	service := role.SelectElement("AssertionConsumerService")
	if d.Root().SelectAttrValue("entityID", "") != entityID || role.SelectAttrValue("AuthnRequestsSigned", "") != "true" || role.SelectAttrValue("WantAssertionsSigned", "") != "true" ||
		service.SelectAttrValue("Location", "") != acs || service.SelectAttrValue("Binding", "") != samltest.POST {
		t.Errorf("%s", raw)
	}
	if strings.Contains(string(raw), "cbc") || strings.Contains(string(raw), "rsa-1_5") {
		t.Errorf("%s", raw)
	}
	// Somebody else's reader of metadata understands it.
	var read crewjam.EntityDescriptor
	ok(t, unmarshal(raw, &read))
	if read.SPSSODescriptors[0].AssertionConsumerServices[0].Location != acs {
		t.Errorf("%+v", read)
	}
	other, err := w.Metadata(t.Context(), "globex")
	kind(t, err, errs.NotFound, "")
	if other != nil {
		t.Error("metadata")
	}
}

func (w *world) answer(t testing.TB, change func(*samltest.Answer)) identity.Response {
	t.Helper()
	a := (&bed{now: w.now}).answer("both")
	if change != nil {
		change(&a)
	}
	return identity.Response{Method: http.MethodPost, Values: url.Values{"SAMLResponse": {w.idp.Response(t, a)}, "RelayState": {state}}}
}

func reason(t testing.TB, err error, want string) {
	t.Helper()
	var refusal *identity.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != want || errs.KindOf(err) != errs.Unauthenticated {
		t.Fatalf("%v; %s expected", err, want)
	}
}

func TestFinish(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor()), Domains: &[]string{"acme.test"}})
		w.configure(t, "o2", saml.Change{Descriptor: ptr(w.descriptor())})
		x, err := w.connector(t, "o1").Finish(t.Context(), w.flow(), w.answer(t, nil))
		ok(t, err)
		if x.Subject != "alice" || !x.EmailVerified || x.Credential != nil || len(x.Once) != 2 {
			t.Errorf("%+v", x)
		}
		// The same identity provider serves two organizations, and means one of them.
		_, err = w.connector(t, "o2").Finish(t.Context(), w.flow(), w.answer(t, nil))
		reason(t, err, "saml_destination")
		get := w.answer(t, nil)
		get.Method = http.MethodGet
		_, err = w.connector(t, "o1").Finish(t.Context(), w.flow(), get)
		reason(t, err, "saml_structure")
		_, err = w.connector(t, "o1").Finish(t.Context(), identity.Flow{}, w.answer(t, func(a *samltest.Answer) { a.InResponseTo = "" }))
		reason(t, err, "saml_unsolicited")
		_, err = w.connector(t, "o1").Recheck(t.Context(), "alice", nil)
		if err == nil {
			t.Error("rechecked")
		}

		// SAML-44: the settings of the moment count.
		response := w.answer(t, nil)
		ok(t, w.Remove(t.Context(), admin, "o1"))
		_, err = w.Connector(t.Context(), "o1")
		kind(t, err, errs.NotFound, "")
		w.configure(t, "o1", saml.Change{Descriptor: ptr(samltest.NewSigner(t, issuer, 1).Descriptor(sso, samltest.POST))})
		_, err = w.connector(t, "o1").Finish(t.Context(), w.flow(), response)
		reason(t, err, "saml_signature")
		delete(w.directory.organizations, "o1")
		_, err = w.Connector(t.Context(), "o1")
		kind(t, err, errs.NotFound, "")
	})
}

func TestFinishEncrypted(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor()), AllowEncrypted: ptr(true)})
	a := (&bed{now: w.now}).answer("assertion")
	d := w.idp.Document(t, a)
	samltest.Encrypt(t, d.Root(), w.ours(t, "acme")["encryption"], samltest.Sealing{})
	response := identity.Response{Method: http.MethodPost, Values: url.Values{"SAMLResponse": {samltest.Encode(t, d)}, "RelayState": {state}}}
	x, err := w.connector(t, "o1").Finish(t.Context(), w.flow(), response)
	ok(t, err)
	if x.Subject != "alice" {
		t.Errorf("%+v", x)
	}
	w.configure(t, "o1", saml.Change{AllowEncrypted: ptr(false)})
	_, err = w.connector(t, "o1").Finish(t.Context(), w.flow(), response)
	reason(t, err, "saml_encrypted")
}

// Private keys are in the database only sealed, and one organization's do not open as
// another's, nor for another use.
func TestKeysAreSealed(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
	w.configure(t, "o2", saml.Change{Descriptor: ptr(w.descriptor())})
	var blobs [][]byte
	conn := w.db.Conn(t.Context())
	ok(t, conn.Raw("SELECT signing_key FROM saml_providers UNION ALL SELECT encryption_key FROM saml_providers").Scan(&blobs).Error)
	if len(blobs) != 4 {
		t.Fatal(len(blobs))
	}
	for _, blob := range blobs {
		if _, err := x509.ParsePKCS8PrivateKey(blob); err == nil || bytes.Contains(blob, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")) {
			t.Error("a key in the clear")
		}
	}
	_, err := w.connector(t, "o1").Begin(t.Context(), w.flow())
	ok(t, err)
	ok(t, conn.Exec("UPDATE saml_providers SET signing_key = encryption_key WHERE organization_id = 'o1'").Error)
	if _, err := w.connector(t, "o1").Begin(t.Context(), w.flow()); err == nil {
		t.Error("the encryption key signs")
	}
	ok(t, conn.Exec("UPDATE saml_providers SET signing_key = (SELECT signing_key FROM saml_providers WHERE organization_id = 'o2') WHERE organization_id = 'o1'").Error)
	if _, err := w.connector(t, "o1").Begin(t.Context(), w.flow()); err == nil {
		t.Error("another organization's key signs")
	}
}

func TestWarnings(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	start := w.now
	w.idp.Certificate = samltest.Certificate(t, w.idp.Key, start.Add(-time.Hour), start.Add(31*24*time.Hour))
	w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
	for days, part := range map[float64]string{0: "", 1.5: "expires within 30 days", 23: "expires within 30 days", 24.5: "soon: ", 29.5: "soon: ", 30.5: "urgent: ", 31.5: "expired on"} {
		w.now = start.Add(time.Duration(days * 24 * float64(time.Hour)))
		s, err := w.Settings(t.Context(), "o1")
		ok(t, err)
		probe := w.connector(t, "o1").Probe(t.Context())
		if part == "" {
			if len(s.Warnings) != 0 || probe != nil {
				t.Errorf("%v, %v", s.Warnings, probe)
			}
			continue
		}
		if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], part) {
			t.Errorf("after %v days: %q", days, s.Warnings)
		}
		kind(t, probe, errs.Unprocessable, part)
	}
	w.now = start.Add(32 * 24 * time.Hour)
	_, err := w.connector(t, "o1").Finish(t.Context(), w.flow(), w.answer(t, nil))
	reason(t, err, "saml_certificate")
}

func TestOpen(t *testing.T) {
	if _, err := saml.Open(saml.Config{}); err == nil {
		t.Error("opened with nothing")
	}
}

// detail fails with what an administrator would read.
func detail(t testing.TB, err error) {
	t.Helper()
	var refusal *identity.Refusal
	if errors.As(err, &refusal) {
		t.Fatalf("%s: %s", refusal.Reason, refusal.Detail)
	}
	t.Fatal(err)
}
