package identity_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// exec seeds what other parts of the package write.
func (w *world) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	ok(t, w.db.Conn(t.Context()).Exec(statement, args...).Error)
}

func (w *world) organization(t testing.TB, admin identity.Principal, login string) identity.Organization {
	t.Helper()
	o, err := w.CreateOrganization(t.Context(), admin, login, "")
	ok(t, err)
	return o
}

func (w *world) add(t testing.TB, o identity.Organization, login string, role identity.Role) identity.Principal {
	t.Helper()
	p := w.user(t, login)
	_, err := w.AddMember(t.Context(), identity.Principal{}, o.ID, login, role)
	ok(t, err)
	return p
}

// events returns the names of the events in a log, the newest first.
func (w *world) events(t testing.TB, log string) []string {
	t.Helper()
	page, err := w.audit.log.List(t.Context(), log, audit.Query{})
	ok(t, err)
	var names []string
	for _, e := range page.Entries {
		names = append(names, e.Event.Name)
	}
	return names
}

func set[T any](value T) *T { return &value }

func TestRenamedOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "Acme")
		other := w.organization(t, alice, "other")
		heard := 0
		w.OnChange(func(id string) {
			if id == o.ID {
				heard++
			}
		})
		got, err := w.RenameOrganization(t.Context(), alice, o.ID, "Globex")
		ok(t, err)
		want := o
		want.Login, want.Name = "Globex", "Globex"
		if got != want || got.Key != "Acme" {
			t.Errorf("renamed to %+v", got)
		}
		for _, name := range []string{"acme", "ACME", "globex"} {
			if found, err := w.Organization(t.Context(), name); err != nil || found != want {
				t.Errorf("%s finds %+v, %v", name, found, err)
			}
		}
		// Nobody else can have the former name: they would inherit every link to it.
		_, err = w.RenameOrganization(t.Context(), alice, other.ID, "acme")
		kind(t, err, errs.Conflict)
		_, err = w.CreateOrganization(t.Context(), alice, "ACME", "")
		kind(t, err, errs.Conflict)
		_, err = w.RenameOrganization(t.Context(), alice, o.ID, "alice")
		kind(t, err, errs.Conflict)
		_, err = w.RenameOrganization(t.Context(), alice, o.ID, "admin")
		kind(t, err, errs.Invalid)
		_, err = w.RenameOrganization(t.Context(), alice, "no-such-id", "initech")
		kind(t, err, errs.NotFound)

		for _, roster := range []func() identity.Roster{
			func() identity.Roster { r, err := w.MembersOf(t.Context(), o.ID); ok(t, err); return r },
			func() identity.Roster {
				all, err := w.AllMembers(t.Context())
				ok(t, err)
				return all[slices.IndexFunc(all, func(r identity.Roster) bool { return r.Organization.ID == o.ID })]
			},
		} {
			if r := roster(); !slices.Equal(r.Former, []string{"acme"}) || r.Organization.Login != "Globex" || len(r.Roles) != 1 {
				t.Errorf("the roster is %+v", r)
			}
		}
		if r, err := w.MembersOf(t.Context(), other.ID); err != nil || r.Former != nil {
			t.Errorf("the roster of another is %+v, %v", r, err)
		}
		memberships, err := w.Organizations(t.Context(), alice.UserID)
		ok(t, err)
		if len(memberships) != 2 || memberships[0].Organization != want {
			t.Errorf("memberships are %+v", memberships)
		}
		// It can have its own back, and another spelling of it.
		for _, name := range []string{"ACME", "globex", "Acme"} {
			got, err = w.RenameOrganization(t.Context(), alice, o.ID, name)
			if err != nil || got.Login != name {
				t.Errorf("%+v, %v", got, err)
			}
		}
		_, err = w.RenameOrganization(t.Context(), alice, o.ID, "Acme") // as it is
		ok(t, err)
		if names := w.events(t, o.ID); heard != 5 || !slices.Equal(names[:4], slices.Repeat([]string{"organization-renamed"}, 4)) {
			t.Errorf("heard %d changes; the log has %v", heard, names)
		}
		if names := w.events(t, audit.Site); names[0] != "organization-renamed" {
			t.Errorf("the site's log has %v", names)
		}
	})
}

func TestFormerNamesAreBounded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		for i := range 20 {
			_, err := w.RenameOrganization(t.Context(), alice, o.ID, fmt.Sprint("acme", i))
			ok(t, err)
		}
		_, err := w.RenameOrganization(t.Context(), alice, o.ID, "one-more")
		kind(t, err, errs.Exhausted)
		_, err = w.RenameOrganization(t.Context(), alice, o.ID, "acme3")
		ok(t, err)
	})
}

func TestSingleSignOnSettings(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		w.add(t, o, "bob", identity.RoleAdmin)
		w.add(t, o, "carol", identity.RoleMember)
		managed := w.add(t, o, "managed", identity.RoleAdmin)
		w.exec(t, "UPDATE users SET managed_by = ? WHERE id = ?", o.ID, managed.UserID)
		off := w.add(t, o, "off", identity.RoleAdmin)
		ok(t, w.Disable(t.Context(), alice, off.UserID))
		w.user(t, "stranger")
		change := func(c identity.OrganizationChange) (identity.Organization, error) {
			return w.UpdateOrganization(t.Context(), alice, o.ID, c)
		}
		_, err := change(identity.OrganizationChange{SSO: set(true)})
		kind(t, err, errs.Unprocessable)
		got, err := w.BackOrganization(t.Context(), alice, o.ID, identity.Backing{Kind: identity.KindSAMLBacked})
		ok(t, err)
		if got.Connector != identity.SAMLConnector(o.ID) || got.Kind != identity.KindSAMLBacked {
			t.Errorf("backed by %+v", got)
		}
		for _, unfit := range []string{"carol", "managed", "off", "stranger", "nobody"} {
			_, err = change(identity.OrganizationChange{BreakGlass: &unfit})
			kind(t, err, errs.Unprocessable)
		}
		got, err = change(identity.OrganizationChange{SSO: set(true), BreakGlass: set("bob"), Name: set("Acme\x00 Inc ")})
		ok(t, err)
		if found, err := w.OrganizationByID(t.Context(), o.ID); err != nil || found != got || !got.SSO || got.BreakGlass == "" || got.Name != "Acme Inc" {
			t.Errorf("changed to %+v, stored is %+v, %v", got, found, err)
		}
		w.audit.take()
		_, err = change(identity.OrganizationChange{SSO: set(true)}) // as it is
		ok(t, err)
		if events := w.audit.take(); len(events) != 0 {
			t.Errorf("recorded %v for nothing", events)
		}
		// Who is no administrator any more must not get past the identity provider.
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleMember))
		if found, err := w.OrganizationByID(t.Context(), o.ID); err != nil || found.BreakGlass != "" || !found.SSO {
			t.Errorf("after the demotion: %+v, %v", found, err)
		}
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin))
		_, err = change(identity.OrganizationChange{BreakGlass: set("bob")})
		ok(t, err)
		ok(t, w.RemoveMember(t.Context(), alice, o.ID, "bob"))
		if found, err := w.OrganizationByID(t.Context(), o.ID); err != nil || found.BreakGlass != "" {
			t.Errorf("after the removal: %+v, %v", found, err)
		}
		got, err = w.BackOrganization(t.Context(), alice, o.ID, identity.Backing{})
		ok(t, err)
		if got.SSO || got.Kind != identity.KindPlain || got.Connector != "" {
			t.Errorf("plain again: %+v", got)
		}
	})
}

func TestBackedOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		second := w.organization(t, alice, "second")
		w.exec(t, `INSERT INTO identities (connector, subject, user_id, created, groups) VALUES ('github', '1', ?, 1, ?)`, alice.UserID,
			`[{"id":"10","path":"acme-corp","admin":true},{"id":"11","path":"readers"},{"id":"12","path":"acme-corp/team","parent":"10","admin":true}]`)
		w.exec(t, `INSERT INTO identities (connector, subject, user_id, created, groups, withdrawn) VALUES ('gone', '1', ?, 1, ?, 5)`, alice.UserID, `[{"id":"10","path":"x","admin":true}]`)
		group := func(connector, id string) identity.Backing {
			return identity.Backing{Kind: identity.KindGitHubBacked, Connector: connector, Group: identity.Group{ID: id, Path: "forged"}}
		}
		root := alice
		root.SiteAdmin = true
		for name, c := range map[string]struct {
			b    identity.Backing
			want errs.Kind
		}{
			"not its administrator":      {group("github", "11"), errs.Forbidden},
			"not in it":                  {group("github", "99"), errs.Forbidden},
			"a group within":             {group("github", "12"), errs.Forbidden},
			"at another connector":       {group("gitlab", "10"), errs.Forbidden},
			"let in no more":             {group("gone", "10"), errs.Forbidden},
			"no group":                   {group("github", ""), errs.Invalid},
			"no connector":               {group("", "10"), errs.Invalid},
			"another's SAML":             {identity.Backing{Kind: identity.KindSAMLBacked, Connector: identity.SAMLConnector(second.ID)}, errs.Invalid},
			"a group at SAML":            {group(identity.SAMLConnector(o.ID), "10"), errs.Invalid},
			"unknown kind":               {identity.Backing{Kind: "ldap", Connector: "x"}, errs.Invalid},
			"plain, yet with connectors": {identity.Backing{Connector: "github"}, errs.Invalid},
		} {
			_, err := w.BackOrganization(t.Context(), alice, o.ID, c.b)
			if err == nil || errs.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := w.BackOrganization(t.Context(), alice, o.ID, group("github", "10"))
		ok(t, err)
		if want := (identity.Group{ID: "10", Path: "acme-corp"}); got.Backing != want || got.Kind != identity.KindGitHubBacked || got.Connector != "github" {
			t.Errorf("backed by %+v", got)
		}
		_, err = w.BackOrganization(t.Context(), alice, second.ID, group("github", "10"))
		kind(t, err, errs.Conflict)
		if got, err := w.BackOrganization(t.Context(), root, second.ID, group("github", "77")); err != nil || got.Backing.Path != "forged" {
			t.Errorf("a site administrator: %+v, %v", got, err)
		}
		_, err = w.BackOrganization(t.Context(), identity.Principal{}, second.ID, group("github", "78"))
		ok(t, err)

		w.add(t, o, "bob", identity.RoleMember)
		w.exec(t, "UPDATE members SET source = 'github' WHERE organization_id = ? AND user_id <> ?", o.ID, alice.UserID)
		sources := func() (out []string) {
			members, _, err := w.Members(t.Context(), o.ID, "", 0)
			ok(t, err)
			for _, m := range members {
				out = append(out, m.User.Login+":"+m.Source)
			}
			return out
		}
		if got := sources(); !slices.Equal(got, []string{"alice:", "bob:github"}) {
			t.Errorf("sources are %v", got)
		}
		_, err = w.BackOrganization(t.Context(), alice, o.ID, identity.Backing{})
		ok(t, err)
		if got := sources(); !slices.Equal(got, []string{"alice:", "bob:"}) {
			t.Errorf("sources are %v", got)
		}
		if names := w.events(t, o.ID); names[0] != "organization-backend-changed" {
			t.Errorf("the log has %v", names)
		}
		// The group is free again; the one that gave it up cannot come back with it.
		ok(t, w.DeleteOrganization(t.Context(), alice, second.ID))
		_, err = w.BackOrganization(t.Context(), root, o.ID, group("github", "78"))
		ok(t, err)
		kind(t, w.RestoreOrganization(t.Context(), alice, second.ID), errs.Conflict)
	})
}

func TestGroupBacksOneOrganizationAtATime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		var ids []string
		for i := range 4 {
			ids = append(ids, w.organization(t, alice, fmt.Sprint("acme", i)).ID)
		}
		failed := make([]error, len(ids))
		var group sync.WaitGroup
		for i, id := range ids {
			group.Go(func() {
				_, failed[i] = w.BackOrganization(t.Context(), identity.Principal{}, id, identity.Backing{Kind: identity.KindGitLabBacked, Connector: "gitlab", Group: identity.Group{ID: "1"}})
			})
		}
		group.Wait()
		won := 0
		for _, err := range failed {
			if err == nil {
				won++
			} else if !errors.Is(err, errs.Conflict) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d organizations have the group", won)
		}
	})
}

func TestMembersByLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "Alice")
		o := w.organization(t, alice, "acme")
		for _, login := range []string{"zoe", "Mallory", "bob", "carol", "m_x"} {
			w.add(t, o, login, identity.RoleMember)
		}
		var seen []string
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := w.Members(t.Context(), o.ID, cursor, 2)
			ok(t, err)
			for _, m := range page {
				seen = append(seen, m.User.Login)
			}
			cursor = next
		}
		if want := []string{"Alice", "bob", "carol", "m_x", "Mallory", "zoe"}; !slices.Equal(seen, want) && !slices.Equal(seen, []string{"Alice", "bob", "carol", "Mallory", "m_x", "zoe"}) {
			t.Errorf("members are %v", seen)
		}
		for text, want := range map[string][]string{"ALI": {"Alice"}, "o": {"Alice", "bob", "carol", "Mallory", "m_x", "zoe"}, "_": {"m_x"}, "zoe@": {"zoe"}, "%": nil} {
			page, _, err := w.FindMembers(t.Context(), o.ID, identity.MemberQuery{Text: text})
			ok(t, err)
			var got []string
			for _, m := range page {
				got = append(got, m.User.Login)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%q finds %v", text, got)
			}
		}
	})
}

func TestManagedAccountsJoinNoOtherOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		owner, other := w.organization(t, alice, "owner"), w.organization(t, alice, "other")
		eve := w.user(t, "eve")
		w.exec(t, "UPDATE users SET managed_by = ?, email_verified = ? WHERE id = ?", owner.ID, true, eve.UserID)
		_, err := w.AddMember(t.Context(), alice, other.ID, "eve", identity.RoleMember)
		kind(t, err, errs.Conflict)
		_, err = w.AddMember(t.Context(), alice, owner.ID, "eve", identity.RoleMember)
		ok(t, err)
		_, err = w.CreateOrganization(t.Context(), eve, "mine", "")
		kind(t, err, errs.Conflict)
		for _, email := range []string{"", "eve@example.com"} {
			_, secret, err := w.CreateInvite(t.Context(), alice, other.ID, email, identity.RoleMember)
			ok(t, err)
			_, err = w.AcceptInvite(t.Context(), eve, secret)
			kind(t, err, errs.Forbidden)
		}
		invites, err := w.InvitesTo(t.Context(), eve.UserID)
		if err != nil || len(invites) != 0 {
			t.Errorf("invites are %v, %v", invites, err)
		}
	})
}
