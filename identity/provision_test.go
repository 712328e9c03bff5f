package identity_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

var scim = identity.Principal{Connector: "scim"}

func TestProvisionUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme, beta := w.backed(t, "acme", "saml", "saml", ""), w.backed(t, "beta", "saml", "saml", "")
		names := map[string]string{acme.ID: "acme", beta.ID: "beta"}
		w.audit.take()
		p := identity.Provisioned{UserName: "Alice.Smith@corp.example", ExternalID: "00u1", Name: "Alice Smith", Email: "Alice@corp.example", Active: true}
		u, err := w.ProvisionUser(t.Context(), scim, acme.ID, p)
		ok(t, err)
		if u.Login != "Alice-Smith" || u.Name != "Alice Smith" || u.Email != "alice@corp.example" || u.ManagedBy != acme.ID || !u.Disabled.IsZero() {
			t.Errorf("made %+v", u)
		}
		if got := w.roles(t, acme); got != "{Alice-Smith member saml:"+acme.ID+"}" {
			t.Errorf("members are %s", got)
		}
		if got := w.logged(names); got != "acme scim-user-created user:Alice-Smith" {
			t.Errorf("recorded %s", got)
		}
		// The person arrives in the same account, by either name.
		for _, subject := range []string{"Alice.Smith@corp.example", "00u1"} {
			if in := w.arrive(t, saml(acme), identity.External{Subject: subject, Login: "other"}); in.Created || in.User.ID != u.ID {
				t.Errorf("%s arrives as %+v", subject, in.User)
			}
		}
		w.audit.take()
		for name, bad := range map[string]identity.Provisioned{
			"again":          p,
			"same userName":  {UserName: p.UserName},
			"same external":  {UserName: "new", ExternalID: "00u1"},
			"crossed names":  {UserName: "00u1"},
			"external first": {UserName: "new", ExternalID: p.UserName},
		} {
			if _, err := w.ProvisionUser(t.Context(), scim, acme.ID, bad); errs.KindOf(err) != errs.Conflict {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, bad := range map[string]identity.Provisioned{
			"no userName": {}, "control": {UserName: "a\x00"}, "long": {UserName: strings.Repeat("x", 600)},
			"external": {UserName: "x", ExternalID: "\n"}, "address": {UserName: "x", Email: "x"},
		} {
			if _, err := w.ProvisionUser(t.Context(), scim, acme.ID, bad); errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		gone := w.backed(t, "gone", "saml", "saml", "")
		ok(t, w.DeleteOrganization(t.Context(), identity.Principal{}, gone.ID))
		w.audit.take()
		for _, id := range []string{"nobody", gone.ID} {
			_, err = w.ProvisionUser(t.Context(), scim, id, p)
			kind(t, err, errs.NotFound)
		}
		if got := w.logged(names); got != "" {
			t.Errorf("recorded %s", got)
		}
		// Another organization's Alice is somebody else.
		other, err := w.ProvisionUser(t.Context(), scim, beta.ID, identity.Provisioned{UserName: p.UserName, ExternalID: "00u1", Email: p.Email})
		ok(t, err)
		if other.ID == u.ID || other.Login != "Alice-Smith-2" || other.Disabled.IsZero() || other.DisabledBy != "scim:"+beta.ID {
			t.Errorf("made %+v", other)
		}
		_, err = w.Arrive(t.Context(), saml(beta), w.flow(), identity.External{Subject: "00u1"})
		reason(t, err, identity.UserDisabled)
	})
}

func TestUpdateProvisioned(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme, beta := w.backed(t, "acme", "saml", "saml", ""), w.backed(t, "beta", "saml", "saml", "")
		names := map[string]string{acme.ID: "acme", beta.ID: "beta", "site": "site"}
		p := identity.Provisioned{UserName: "alice", ExternalID: "1", Name: "Alice", Email: "alice@corp.example", Active: true}
		u, err := w.ProvisionUser(t.Context(), scim, acme.ID, p)
		ok(t, err)
		_, err = w.ProvisionUser(t.Context(), scim, acme.ID, identity.Provisioned{UserName: "bob", ExternalID: "2", Active: true})
		ok(t, err)
		in := w.arrive(t, saml(acme), identity.External{Subject: "1"})
		principal, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), principal, identity.TokenRequest{})
		ok(t, err)
		update := func(p identity.Provisioned, want string) {
			t.Helper()
			w.audit.take()
			got, err := w.UpdateProvisioned(t.Context(), scim, acme.ID, u.ID, p)
			ok(t, err)
			if stored, err := w.User(t.Context(), u.ID); err != nil || stored != got {
				t.Errorf("stored is %+v, %v; returned %+v", stored, err, got)
			}
			if got := w.logged(names); got != want {
				t.Errorf("recorded %q, want %q", got, want)
			}
		}
		update(p, "")
		p.Name, p.Email = "Alice Jones", "jones@corp.example"
		update(p, "acme scim-user-updated user:alice")
		update(p, "")
		// The old name may be somebody else's from now on.
		p.UserName = "jones"
		update(p, "acme scim-user-updated user:alice")
		if in := w.arrive(t, saml(acme), identity.External{Subject: "jones"}); in.User.ID != u.ID {
			t.Errorf("arrived as %+v", in.User)
		}
		if in := w.arrive(t, saml(acme), identity.External{Subject: "alice", Login: "alice"}); !in.Created {
			t.Errorf("the old name leads to %+v", in.User)
		}
		for _, taken := range []identity.Provisioned{{UserName: "bob", Active: true}, {UserName: "jones", ExternalID: "2", Active: true}} {
			_, err := w.UpdateProvisioned(t.Context(), scim, acme.ID, u.ID, taken)
			kind(t, err, errs.Conflict)
		}

		// Deactivated is out at once, and stays so for everybody but the provider.
		p.Active = false
		update(p, "acme scim-user-deactivated user:alice")
		update(p, "")
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.UserDisabled)
		_, err = w.AuthenticateToken(t.Context(), token)
		reason(t, err, identity.UserDisabled)
		_, err = w.Arrive(t.Context(), saml(acme), w.flow(), identity.External{Subject: "jones"})
		reason(t, err, identity.UserDisabled)
		p.Active = true
		update(p, "acme scim-user-activated user:alice")
		_, err = w.AuthenticateToken(t.Context(), token)
		ok(t, err)
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.SessionEnded)
		ok(t, w.Disable(t.Context(), identity.Principal{}, u.ID))
		update(p, "")
		p.Active = false
		update(p, "")
		p.Active = true
		update(p, "")
		if u, err := w.User(t.Context(), u.ID); err != nil || u.DisabledBy != "admin" {
			t.Errorf("%+v, %v", u, err)
		}

		// Nobody else's account is changed.
		carol := w.newUser(t, "carol")
		w.member(t, acme, carol.ID, identity.RoleMember, "")
		for name, c := range map[string]struct{ organization, user string }{
			"not managed": {acme.ID, carol.ID}, "of another": {beta.ID, u.ID}, "no organization": {"", carol.ID}, "nobody": {acme.ID, "nobody"},
		} {
			if _, err := w.UpdateProvisioned(t.Context(), scim, c.organization, c.user, p); errs.KindOf(err) != errs.NotFound {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A directory that pushes the same person from several connections makes one account.
func TestProvisionAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		var group sync.WaitGroup
		made := make(chan string, 20)
		for range cap(made) {
			group.Go(func() {
				u, err := w.ProvisionUser(context.Background(), scim, acme.ID, identity.Provisioned{UserName: "alice", Active: true})
				if err == nil {
					made <- u.ID
				} else if errs.KindOf(err) != errs.Conflict {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(made) != 1 {
			t.Errorf("made %d", len(made))
		}
	})
}

func BenchmarkProvisionUser(b *testing.B) {
	w := newWorld(b, databasetest.SQLite(b, migrations...))
	acme := w.backed(b, "acme", "saml", "saml", "")
	n := 0
	for b.Loop() {
		n++
		_, err := w.ProvisionUser(b.Context(), scim, acme.ID, identity.Provisioned{UserName: fmt.Sprint("user-", n, "@corp.example"), ExternalID: fmt.Sprint(n), Active: true})
		ok(b, err)
	}
}
