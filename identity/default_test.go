package identity_test

import (
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestDefaultOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		if _, err := w.DefaultOrganization(t.Context(), alice.UserID); errs.KindOf(err) != errs.NotFound {
			t.Fatalf("without an organization: %v", err)
		}
		zoo := w.organization(t, alice, "zoo")
		w.clock.advance(time.Minute)
		acme := w.organization(t, alice, "acme")
		other := w.organization(t, bob, "other")
		is := func(want identity.Organization) {
			t.Helper()
			got, err := w.DefaultOrganization(t.Context(), alice.UserID)
			ok(t, err)
			if got.ID != want.ID {
				t.Errorf("the default is %s, not %s", got.Login, want.Login)
			}
		}
		is(zoo) // joined first
		ok(t, w.SetDefaultOrganization(t.Context(), alice, acme.ID))
		is(acme)
		if err := w.SetDefaultOrganization(t.Context(), alice, other.ID); errs.KindOf(err) != errs.NotFound {
			t.Errorf("chose somebody else's: %v", err)
		}
		is(acme)
		_, err := w.AddMember(t.Context(), alice, acme.ID, "bob", identity.RoleAdmin)
		ok(t, err)
		ok(t, w.RemoveMember(t.Context(), bob, acme.ID, "alice"))
		is(zoo)
	})
}
