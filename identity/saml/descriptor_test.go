package saml_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func unmarshal(raw []byte, v any) error { return xml.Unmarshal(raw, v) }

func TestParseDescriptor(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	good := w.descriptor()
	location := func(to string) string { return w.idp.Descriptor(to, samltest.Redirect) }
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	ok(t, err)
	certificate := func(begin, end time.Time) string {
		s := *w.idp
		s.Certificate = samltest.Certificate(t, s.Key, begin, end)
		return s.Descriptor(sso, samltest.Redirect)
	}
	entities := func(n int) string {
		return `<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">` + strings.Repeat(good, n) + `</md:EntitiesDescriptor>`
	}
	replace := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatal(from)
		}
		return strings.ReplaceAll(good, from, to)
	}
	for _, c := range []struct{ name, text, part string }{
		{"good", good, ""},
		{"with a mark before", "\ufeff" + good, ""},
		{"with a comment and a declaration", `<?xml version="1.0" encoding="utf-8"?><!-- x -->` + good, ""},
		{"one of one entities", entities(1), ""},
		{"no formats", replace("<md:NameIDFormat>"+samltest.Persistent+"</md:NameIDFormat>", ""), ""},
		{"valid for a while", replace(` entityID=`, ` validUntil="2090-01-01T00:00:00Z" entityID=`), ""},
		{"loopback over http", location("http://127.0.0.1:8080/sso"), ""},
		{"localhost over http", location("http://localhost/sso"), ""},
		{"empty", " ", "empty"},
		{"a word", "hello", "not XML"},
		{"a page", "<html><body>not found</body></html>", "is a html"},
		{"cut off", good[:len(good)-20], "not XML"},
		{"two documents", good + good, "not XML"},
		{"DOCTYPE", `<!DOCTYPE x>` + good, "DOCTYPE"},
		{"entity", `<!DOCTYPE x [<!ENTITY a "b">]>` + good, "DOCTYPE"},
		{"too large", good + strings.Repeat(" ", 1<<20), "larger"},
		{"too many elements", replace("</md:EntityDescriptor>", strings.Repeat("<x/>", 20_000)+"</md:EntityDescriptor>"), "too large"},
		{"several entities", entities(2), "several entities"},
		{"no entities", entities(0), "several entities"},
		{"another namespace", replace("urn:oasis:names:tc:SAML:2.0:metadata", "urn:x"), "is a EntityDescriptor and not"},
		{"of a service provider", replace("IDPSSODescriptor", "SPSSODescriptor"), "no IDPSSODescriptor"},
		{"SAML 1.1 only", replace(`protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"`, `protocolSupportEnumeration="urn:oasis:names:tc:SAML:1.1:protocol"`), "no IDPSSODescriptor"},
		{"no name", replace(`entityID="`+issuer+`"`, ""), "entityID"},
		{"no certificate", replace("ds:X509Data", "ds:Other"), "no usable signing certificate"},
		{"for encryption only", replace(`use="signing"`, `use="encryption"`), "no usable signing certificate"},
		{"a broken certificate", replace("<ds:X509Certificate>", "<ds:X509Certificate>AAAA"), "cannot be read"},
		{"expired certificate", certificate(w.now.AddDate(-2, 0, 0), w.now.Add(-time.Hour)), "expired on"},
		{"certificate of tomorrow", certificate(w.now.Add(24*time.Hour), w.now.AddDate(1, 0, 0)), "not valid before"},
		{"a weak key", (&samltest.Signer{EntityID: issuer, Key: weak, Certificate: samltest.Certificate(t, weak, w.now.Add(-time.Hour), w.now.Add(time.Hour))}).Descriptor(sso, samltest.Redirect), "too weak"},
		{"SAML-40 javascript", location("javascript:alert(1)"), "not an https address"},
		{"SAML-40 javascript with slashes", location("javascript://x/%0aalert(1)"), "not an https address"},
		{"SAML-40 data", location("data:text/html,x"), "not an https address"},
		{"SAML-40 http", location("http://idp.example.test/sso"), "not encrypted"},
		{"SAML-40 http that looks like loopback", location("http://127.0.0.1.example.test/sso"), "not encrypted"},
		{"SAML-40 our own host", location("https://IPUKA.example.test:443/login/acme/sso/saml/acs"), "this server itself"},
		{"no host", location("https:///sso"), "not an https address"},
		{"a path", location("/sso"), "not an https address"},
		{"a password", location("https://a:b@idp.example.test/"), "not an https address"},
		{"SAML-40 javascript for the second binding", replace(`Binding="`+samltest.POST+`" Location="`+strings.ReplaceAll(sso, "&", "&amp;")+`"`, `Binding="`+samltest.POST+`" Location="javascript:x"`), "not an https address"},
		{"artifact binding only", w.idp.Descriptor(sso, "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Artifact"), "no SingleSignOnService"},
		{"transient only", replace(samltest.Persistent, samltest.Transient), "NameIDFormat is neither"},
		{"over", replace(` entityID=`, ` validUntil="2020-01-01T00:00:00Z" entityID=`), "was valid until"},
		{"role over", replace(` protocolSupportEnumeration=`, ` validUntil="2020-01-01T00:00:00Z" protocolSupportEnumeration=`), "was valid until"},
		{"no time", replace(` entityID=`, ` validUntil="soon" entityID=`), "is not a time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := w.ParseDescriptor([]byte(c.text))
			if c.part == "" {
				ok(t, err)
				if d.EntityID != issuer || d.SSOURL == "" || len(d.Certificates) != 1 {
					t.Errorf("%+v", d)
				}
				return
			}
			kind(t, err, errs.Invalid, c.part)
			if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%q", err.Error())
			}
		})
	}
}

func FuzzParseDescriptor(f *testing.F) {
	w := newWorld(f, databasetest.SQLite(f, saml.Migrations, audit.Migrations))
	f.Add([]byte(w.descriptor()))
	f.Add([]byte(`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"><IDPSSODescriptor/></EntityDescriptor>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := w.ParseDescriptor(text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatal(err)
			}
			return
		}
		if !strings.HasPrefix(d.SSOURL, "http") || len(d.Certificates) == 0 || d.EntityID == "" {
			t.Fatalf("%+v", d)
		}
	})
}
