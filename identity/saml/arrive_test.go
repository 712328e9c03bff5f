package saml_test

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

// SAML-25: with the real directory, one response makes one session, however often and
// from however many sides it comes at once.
func TestArriveOnce(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db)
		directory, err := identity.Open(identity.Config{DB: db, Audit: w.log})
		ok(t, err)
		o, err := directory.CreateOrganization(t.Context(), identity.Principal{}, "acme", "")
		ok(t, err)
		w.reopen(t, directory)
		s := w.configure(t, o.ID, saml.Change{Descriptor: ptr(w.descriptor()), Domains: &[]string{"acme.test"}})
		if o, err = directory.OrganizationByID(t.Context(), o.ID); err != nil || o.Kind != identity.KindSAMLBacked || o.Connector != identity.SAMLConnector(o.ID) || s.EntityID != entityID {
			t.Fatalf("%+v %v", o, err)
		}
		c := w.connector(t, o.ID)
		now, err := db.Now(t.Context())
		ok(t, err)
		f := identity.Flow{State: state, Request: request, Expires: now.Add(identity.FlowLife)}
		w.now = now
		a := (&bed{now: now}).answer("both")
		response := identity.Response{Method: http.MethodPost, Values: url.Values{"SAMLResponse": {w.idp.Response(t, a)}, "RelayState": {state}}}
		var mu sync.Mutex
		var in []identity.SignedIn
		reasons := make(map[string]int)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				x, err := c.Finish(t.Context(), f, response)
				if err != nil {
					t.Error(err)
					return
				}
				s, err := directory.Arrive(t.Context(), c.Info(), f, x)
				mu.Lock()
				defer mu.Unlock()
				var refusal *identity.Refusal
				switch {
				case err == nil:
					in = append(in, s)
				case errors.As(err, &refusal):
					reasons[refusal.Reason]++
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(in) != 1 || !in[0].Created || reasons["flow_used"] != 19 {
			t.Fatalf("%d sessions, refused: %v", len(in), reasons)
		}
		// In a flow of its own, stolen, it is used up all the same.
		g := f
		g.State += "x"
		response.Values.Set("RelayState", g.State)
		x, err := c.Finish(t.Context(), g, response)
		ok(t, err)
		_, err = directory.Arrive(t.Context(), c.Info(), g, x)
		reason(t, err, "replayed")

		ok(t, w.Remove(t.Context(), admin, o.ID))
		if o, err = directory.OrganizationByID(t.Context(), o.ID); err != nil || o.Kind != identity.KindPlain {
			t.Fatalf("%+v %v", o, err)
		}
		page, err := w.log.List(t.Context(), o.ID, audit.Query{Event: "user-login-failed"})
		ok(t, err)
		if len(page.Entries) != 20 {
			t.Errorf("%d refusals on record", len(page.Entries))
		}
	}, identity.Migrations, audit.Migrations, saml.Migrations)
}
