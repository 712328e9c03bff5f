package saml_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
	"github.com/ipuka/ipuka/internal/sealed"
)

func TestConfigure(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.Connector(t.Context(), "o1")
		kind(t, err, errs.NotFound, "")
		_, err = w.Metadata(t.Context(), "acme")
		kind(t, err, errs.NotFound, "")
		s, err := w.Settings(t.Context(), "o1")
		ok(t, err)
		if s.EntityID != entityID || s.ACS != acs || s.MetadataURL != entityID || s.Prepared || s.Configured() || !s.SignUp {
			t.Errorf("%+v", s)
		}

		// Keys first, so that the identity provider can be told about us.
		s = w.configure(t, "o1", saml.Change{})
		if !s.Prepared || s.Configured() || len(w.directory.backings) != 0 {
			t.Errorf("%+v", s)
		}
		before, err := w.Metadata(t.Context(), "acme")
		ok(t, err)
		_, err = w.Connector(t.Context(), "o1")
		kind(t, err, errs.NotFound, "")

		s = w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor()), Domains: &[]string{" ACME.test", "acme.test"}, Attributes: &saml.AttributeMap{Groups: "teams"}})
		if !s.Configured() || s.IdPEntityID != issuer || s.SSOURL != sso || s.Binding != samltest.Redirect || len(s.Certificates) != 1 ||
			s.NameIDFormat != saml.Persistent || !slices.Equal(s.Domains, []string{"acme.test"}) || s.Attributes.Groups != "teams" || len(s.Warnings) != 0 || !s.SignUp {
			t.Errorf("%+v", s)
		}
		again, err := w.Settings(t.Context(), "o1")
		ok(t, err)
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", s) {
			t.Errorf("%+v\n%+v", again, s)
		}
		if len(w.directory.backings) != 1 || w.directory.backings[0] != (identity.Backing{Kind: identity.KindSAMLBacked, Connector: "saml:o1"}) {
			t.Errorf("%+v", w.directory.backings)
		}
		after, err := w.Metadata(t.Context(), "ACME-inc")
		ok(t, err)
		if !bytes.Equal(before, after) {
			t.Error("the keys have changed")
		}
		s = w.configure(t, "o1", saml.Change{SignUp: ptr(false), AllowEncrypted: ptr(true), AllowIdPInitiated: ptr(true), NameIDFormat: ptr("")})
		if s.SignUp || !s.AllowEncrypted || !s.AllowIdPInitiated || s.NameIDFormat != "" || !slices.Equal(s.Domains, []string{"acme.test"}) || len(w.directory.backings) != 1 {
			t.Errorf("%+v", s)
		}
		c, err := w.Connector(t.Context(), "o1")
		ok(t, err)
		want := identity.ConnectorInfo{Name: "saml:o1", Kind: identity.KindSAML, Title: "Single sign-on", OrganizationID: "o1", Issuer: issuer}
		if c.Info() != want {
			t.Errorf("%+v", c.Info())
		}
		ok(t, c.Probe(t.Context()))

		ok(t, w.Remove(t.Context(), admin, "o1"))
		kind(t, w.Remove(t.Context(), admin, "o1"), errs.NotFound, "")
		_, err = w.Connector(t.Context(), "o1")
		kind(t, err, errs.NotFound, "")
		if len(w.directory.backings) != 2 || w.directory.backings[1] != (identity.Backing{}) {
			t.Errorf("%+v", w.directory.backings)
		}

		events := w.events(t, "o1")
		if len(events) != 4 {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if e.Name != "saml-configuration-updated" || e.Actor.Login != "ada" || e.Object != "acme-inc" {
				t.Errorf("%+v", e)
			}
			if _, known := audit.Describe(e.Name); !known {
				t.Error("not in the catalogue")
			}
		}
		set := events[1]
		if set.After["entity_id"] != issuer || set.After["sso_url"] != sso || set.After["fingerprints"] != s.Certificates[0].Fingerprint || set.Before["entity_id"] != "" {
			t.Errorf("%+v", set)
		}
		if last := events[3]; last.Before["entity_id"] != issuer || len(last.After) != 0 {
			t.Errorf("%+v", last)
		}
	})
}

// What Configure does is done wholly or not at all.
func TestConfigureIsOneTransaction(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.directory.fail = errs.Errorf(errs.Conflict, "no")
		_, err := w.Configure(t.Context(), admin, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
		kind(t, err, errs.Conflict, "no")
		s, err := w.Settings(t.Context(), "o1")
		ok(t, err)
		if s.Prepared || len(w.events(t, "o1")) != 0 {
			t.Errorf("%+v", s)
		}
		w.directory.fail = nil
		w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
		w.directory.fail = errors.New("broken")
		if err := w.Remove(t.Context(), admin, "o1"); err == nil {
			t.Error("removed")
		}
		_, err = w.Connector(t.Context(), "o1")
		ok(t, err)
	})
}

func TestConfigureAtTheSameTime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.configure(t, "o1", saml.Change{Descriptor: ptr(w.descriptor())})
		// The other one is done while this one fetches.
		w.serve = func(rw http.ResponseWriter) {
			w.configure(t, "o1", saml.Change{SignUp: ptr(false)})
			_, _ = io.WriteString(rw, w.descriptor())
		}
		_, err := w.Configure(t.Context(), admin, "o1", saml.Change{DescriptorURL: &w.server.URL})
		kind(t, err, errs.Conflict, "somebody else")
	})
}

func TestRefusedChanges(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, saml.Migrations, audit.Migrations))
	for name, c := range map[string]struct {
		change saml.Change
		part   string
	}{
		"both":          {saml.Change{Descriptor: ptr("x"), DescriptorURL: ptr("https://x")}, "not as both"},
		"format":        {saml.Change{NameIDFormat: ptr(samltest.Transient)}, "name ID format"},
		"domain":        {saml.Change{Domains: &[]string{"acme"}}, "domain"},
		"an address":    {saml.Change{Domains: &[]string{"alice@acme.test"}}, "domain"},
		"http":          {saml.Change{DescriptorURL: ptr("http://idp.example.test/metadata")}, "https://"},
		"password":      {saml.Change{DescriptorURL: ptr("https://a:b@idp.example.test/metadata")}, "https://"},
		"file":          {saml.Change{DescriptorURL: ptr("file:///etc/passwd")}, "https://"},
		"long name":     {saml.Change{Attributes: &saml.AttributeMap{Login: strings.Repeat("x", 300)}}, "attribute"},
		"no descriptor": {saml.Change{Descriptor: ptr("hello")}, "not XML"},
	} {
		_, err := w.Configure(t.Context(), admin, "o1", c.change)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), c.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.Configure(t.Context(), admin, "o9", saml.Change{})
	kind(t, err, errs.NotFound, "")
}

// SAML-45: what an address may answer with. The client of the test trusts loopback;
// the one of the first case is as it is in earnest.
func TestFetch(t *testing.T) {
	db := databasetest.SQLite(t, saml.Migrations, audit.Migrations)
	w := newWorld(t, db)
	box, err := sealed.New(bytes.Repeat([]byte{7}, sealed.KeySize), "saml")
	ok(t, err)
	strict, err := saml.Open(saml.Config{DB: db, Directory: w.directory, Audit: w.log, Box: box, ConsoleURL: console, Client: outbound.Client(outbound.Options{})})
	ok(t, err)
	strict.Quick()
	for _, address := range []string{w.server.URL, "https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://localhost:1/"} {
		_, err = strict.Configure(t.Context(), admin, "o1", saml.Change{DescriptorURL: &address})
		kind(t, err, errs.Unprocessable, "may reach")
	}
	if w.fetched != 0 {
		t.Error("loopback was reached")
	}
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter)
		kind  errs.Kind
		part  string
	}{
		"redirect":  {func(rw http.ResponseWriter) { rw.Header().Set("Location", "/x"); rw.WriteHeader(http.StatusFound) }, errs.Unprocessable, "redirects are not followed"},
		"missing":   {func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusNotFound) }, errs.Unprocessable, "404"},
		"page":      {func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, "<!DOCTYPE html><html></html>") }, errs.Unprocessable, "web page"},
		"too large": {func(rw http.ResponseWriter) { _, _ = rw.Write(make([]byte, 2<<20)) }, errs.Unprocessable, "too large"},
		"garbage":   {func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, "hello") }, errs.Invalid, "not XML"},
	} {
		w.serve = c.serve
		_, err := w.Configure(t.Context(), admin, "o1", saml.Change{DescriptorURL: &w.server.URL})
		if errs.KindOf(err) != c.kind || !strings.Contains(errs.Public(err), c.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.server.Close()
	_, err = w.Configure(t.Context(), admin, "o1", saml.Change{DescriptorURL: &w.server.URL})
	kind(t, err, errs.Unprocessable, "cannot be reached")
}

func TestRefresh(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.configure(t, "o1", saml.Change{DescriptorURL: &w.server.URL})
		if s.DescriptorURL != w.server.URL || !s.Configured() || w.fetched != 1 {
			t.Fatalf("%+v", s)
		}
		state := func() saml.Settings {
			t.Helper()
			ok(t, w.Refresh(t.Context()))
			s, err := w.Settings(t.Context(), "o1")
			ok(t, err)
			return s
		}
		state()
		if w.fetched != 1 {
			t.Error("fetched again at once")
		}
		w.now = w.now.Add(25 * time.Hour)
		state()
		state()
		if w.fetched != 2 || len(w.events(t, "o1")) != 1 {
			t.Errorf("fetched %d times, %d events", w.fetched, len(w.events(t, "o1")))
		}

		// Another identity provider, and nonsense, leave everything as it was.
		for part, text := range map[string]string{
			"another identity provider": samltest.NewSigner(t, "https://evil.example.test", 1).Descriptor(sso, samltest.POST),
			"not XML":                   "down for maintenance",
		} {
			w.serve = func(rw http.ResponseWriter) {
				rw.Header().Set("Content-Type", "text/xml")
				_, _ = io.WriteString(rw, text)
			}
			w.now = w.now.Add(25 * time.Hour)
			s = state()
			if s.IdPEntityID != issuer || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], part) {
				t.Errorf("%+v", s)
			}
			c, err := w.Connector(t.Context(), "o1")
			ok(t, err)
			kind(t, c.Probe(t.Context()), errs.Unprocessable, part)
		}

		// A new certificate is taken, and on record. It is tried again after an hour.
		w.idp = samltest.NewSigner(t, issuer, 1)
		w.serve = func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, w.descriptor()) }
		w.now = w.now.Add(61 * time.Minute)
		old := s.Certificates[0].Fingerprint
		s = state()
		if s.Certificates[0].Fingerprint == old || len(s.Warnings) != 0 {
			t.Errorf("%+v", s)
		}
		events := w.events(t, "o1")
		if last := events[len(events)-1]; len(events) != 2 || last.Before["fingerprints"] != old || last.After["fingerprints"] != s.Certificates[0].Fingerprint || last.Actor.Kind != audit.System {
			t.Errorf("%+v", events)
		}
		fetched := w.fetched
		s = w.configure(t, "o1", saml.Change{DescriptorURL: ptr("")})
		w.now = w.now.Add(25 * time.Hour)
		state()
		if s.DescriptorURL != "" || !s.Configured() || w.fetched != fetched {
			t.Errorf("%+v", s)
		}
	})
}
