package identity_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestMembers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "Acme")
		ok(t, err)
		other, err := w.CreateOrganization(t.Context(), bob, "Aardvark", "")
		ok(t, err)
		w.audit.take()

		member, err := w.AddMember(t.Context(), alice, o.ID, "BoB", identity.RoleMember)
		ok(t, err)
		if member.User.ID != bob.UserID || member.Role != identity.RoleMember || !member.Created.Equal(w.clock.now()) {
			t.Errorf("member is %+v", member)
		}
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", identity.RoleAdmin)
		kind(t, err, errs.Conflict)
		_, err = w.AddMember(t.Context(), alice, o.ID, "nobody", identity.RoleMember)
		kind(t, err, errs.NotFound)
		_, err = w.AddMember(t.Context(), alice, "no-such-id", "bob", identity.RoleMember)
		kind(t, err, errs.NotFound)
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", "owner")
		kind(t, err, errs.Invalid)
		kind(t, w.SetRole(t.Context(), alice, o.ID, "bob", ""), errs.Invalid)
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleMember)) // as it is
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin))
		if want := []string{"member-added user:bob", "member-role-changed user:bob"}; !slices.Equal(w.audit.take(), want) {
			t.Error("the record differs from what happened")
		}

		memberships, err := w.Organizations(t.Context(), bob.UserID)
		ok(t, err)
		if len(memberships) != 2 || memberships[0].Organization != other || memberships[1].Organization != o || memberships[1].Role != identity.RoleAdmin {
			t.Errorf("memberships are %+v", memberships)
		}
		rosters, err := w.AllMembers(t.Context())
		ok(t, err)
		if len(rosters) != 2 {
			t.Errorf("rosters are %+v", rosters)
		}
		for _, r := range rosters {
			one, err := w.MembersOf(t.Context(), r.Organization.ID)
			if err != nil || fmt.Sprint(one) != fmt.Sprint(r) {
				t.Errorf("%+v and %+v, %v", r, one, err)
			}
		}
		ok(t, w.RemoveMember(t.Context(), alice, o.ID, "bob"))
		kind(t, w.RemoveMember(t.Context(), alice, o.ID, "bob"), errs.NotFound)
		kind(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin), errs.NotFound)
		kind(t, w.RemoveMember(t.Context(), alice, other.ID, "alice"), errs.NotFound)
		page, err := w.audit.log.List(t.Context(), o.ID, audit.Query{})
		ok(t, err)
		var names []string
		for _, e := range page.Entries {
			names = append(names, e.Event.Name)
		}
		if want := []string{"member-removed", "member-role-changed", "member-added", "member-added", "organization-created"}; !slices.Equal(names, want) {
			t.Errorf("the organization's log has %v", names)
		}
	})
}

func TestMemberPages(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		ok(t, err)
		for i := range 6 {
			w.user(t, fmt.Sprint("user", i))
			_, err := w.AddMember(t.Context(), alice, o.ID, fmt.Sprint("user", i), identity.RoleMember)
			ok(t, err)
		}
		seen := map[string]bool{}
		cursor, pages := "", 0
		for {
			members, next, err := w.Members(t.Context(), o.ID, cursor, 3)
			ok(t, err)
			for _, m := range members {
				if seen[m.User.Login] {
					t.Errorf("%s twice", m.User.Login)
				}
				seen[m.User.Login] = true
			}
			pages++
			if next == "" {
				break
			}
			cursor = next
		}
		if len(seen) != 7 || pages != 3 {
			t.Errorf("%d members on %d pages", len(seen), pages)
		}
		for _, forged := range []string{"x", "!", "AAAA=", "AA", "YQpiCmM"} {
			_, _, err := w.Members(t.Context(), o.ID, forged, 3)
			if forged != "x" && err == nil && forged != "AAAA=" {
				continue // a well-formed cursor only starts elsewhere
			}
			kind(t, err, errs.Invalid)
		}
	})
}

func TestLastAdministratorStays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		ok(t, err)
		kind(t, w.RemoveMember(t.Context(), alice, o.ID, "alice"), errs.Conflict)
		kind(t, w.SetRole(t.Context(), alice, o.ID, "alice", identity.RoleMember), errs.Conflict)
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", identity.RoleMember)
		ok(t, err)
		kind(t, w.RemoveMember(t.Context(), alice, o.ID, "alice"), errs.Conflict)
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin))
		// An administrator who cannot sign in does not count.
		ok(t, w.Disable(t.Context(), alice, bob.UserID))
		kind(t, w.RemoveMember(t.Context(), alice, o.ID, "alice"), errs.Conflict)
		ok(t, w.Enable(t.Context(), alice, bob.UserID))
		ok(t, w.RemoveMember(t.Context(), alice, o.ID, "alice"))
	})
}

func TestTwoAdministratorsRemoveEachOther(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for round := range 8 {
			a, b := fmt.Sprint("a", round), fmt.Sprint("b", round)
			alice, bob := w.user(t, a), w.user(t, b)
			o, err := w.CreateOrganization(t.Context(), alice, fmt.Sprint("acme", round), "")
			ok(t, err)
			_, err = w.AddMember(t.Context(), alice, o.ID, b, identity.RoleAdmin)
			ok(t, err)
			var group sync.WaitGroup
			var failed [4]error
			start := make(chan bool)
			for i, change := range []func() error{
				func() error { return w.RemoveMember(t.Context(), alice, o.ID, b) },
				func() error { return w.RemoveMember(t.Context(), bob, o.ID, a) },
				func() error { return w.SetRole(t.Context(), bob, o.ID, a, identity.RoleMember) },
				func() error { return w.RemoveMember(t.Context(), bob, o.ID, b) },
			} {
				group.Go(func() { <-start; failed[i] = change() })
			}
			close(start)
			group.Wait()
			roster, err := w.MembersOf(t.Context(), o.ID)
			ok(t, err)
			admins := 0
			for _, role := range roster.Roles {
				if role == identity.RoleAdmin {
					admins++
				}
			}
			if admins != 1 {
				t.Fatalf("%d administrators are left: %v", admins, failed)
			}
		}
	})
}

func TestDisabledUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		ok(t, err)
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", identity.RoleMember)
		ok(t, err)
		secret, _, err := w.CreateSession(t.Context(), bob.UserID, "email")
		ok(t, err)
		token, raw, err := w.CreateToken(t.Context(), bob, identity.TokenRequest{Description: "ci"})
		ok(t, err)
		heard := 0
		w.OnChange(func(string) { heard++ })
		w.audit.take()

		ok(t, w.Disable(t.Context(), alice, bob.UserID))
		ok(t, w.Disable(t.Context(), alice, bob.UserID)) // as it is
		_, err = w.AuthenticateSession(t.Context(), secret)
		reason(t, err, identity.UserDisabled)
		_, err = w.AuthenticateToken(t.Context(), raw)
		if r := reason(t, err, identity.UserDisabled); r.Claimed.UserID != bob.UserID || r.Claimed.TokenID != token.ID || r.Claimed.TokenName != "ci" {
			t.Errorf("the refusal does not say whose token it is: %+v", r)
		}
		_, _, err = w.CreateSession(t.Context(), bob.UserID, "email")
		reason(t, err, identity.UserDisabled)
		_, _, err = w.CreateToken(t.Context(), bob, identity.TokenRequest{})
		reason(t, err, identity.UserDisabled)
		roster, err := w.MembersOf(t.Context(), o.ID)
		ok(t, err)
		if len(roster.Roles) != 1 || roster.Roles[bob.UserID] != "" {
			t.Errorf("a disabled user is on the roster: %v", roster)
		}
		ok(t, w.Enable(t.Context(), alice, bob.UserID))
		_, err = w.AuthenticateSession(t.Context(), secret)
		reason(t, err, identity.SessionEnded)
		_, err = w.AuthenticateToken(t.Context(), raw)
		ok(t, err)
		if want := []string{"user-disabled user:bob", "user-enabled user:bob"}; !slices.Equal(w.audit.take(), want) || heard != 2 {
			t.Errorf("heard %d changes, or the record differs from what happened", heard)
		}
		kind(t, w.Disable(t.Context(), alice, ""), errs.NotFound)
	})
}

func TestLastSiteAdministratorsDisableEachOther(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for round := range 5 {
			var admins []identity.User
			for i := range 2 {
				u, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: fmt.Sprintf("root-%d-%d", round, i), SiteAdmin: true})
				ok(t, err)
				admins = append(admins, u)
			}
			var group sync.WaitGroup
			var failed [2]error
			for i := range 2 {
				group.Go(func() { failed[i] = w.Disable(t.Context(), admins[1-i].Principal(""), admins[i].ID) })
			}
			group.Wait()
			if (failed[0] == nil) == (failed[1] == nil) {
				t.Fatalf("both or none: %v", failed)
			}
			for i, err := range failed {
				if err != nil {
					kind(t, err, errs.Conflict)
					// Out of the way of the next round.
					ok(t, w.db.Conn(t.Context()).Exec("UPDATE users SET site_admin = ? WHERE id = ?", false, admins[i].ID).Error)
				}
			}
		}
	})
}
