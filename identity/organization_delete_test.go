package identity_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestDeletedOrganizationIsNowhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		bob := w.add(t, o, "bob", identity.RoleMember)
		w.exec(t, "UPDATE users SET email_verified = ?", true)
		carol := w.user(t, "carol")
		w.exec(t, "UPDATE users SET email_verified = ? WHERE id = ?", true, carol.UserID)
		team, err := w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "core"})
		ok(t, err)
		invite, secret, err := w.CreateInvite(t.Context(), alice, o.ID, "carol@example.com", identity.RoleMember)
		ok(t, err)
		kind(t, w.RestoreOrganization(t.Context(), alice, o.ID), errs.Conflict)
		kind(t, w.PurgeOrganization(t.Context(), alice, o.ID), errs.Conflict)
		ok(t, w.DeleteOrganization(t.Context(), alice, o.ID))

		name := func(_ any, err error) error { return err }
		page := func(_ any, _ string, err error) error { return err }
		for what, err := range map[string]error{
			"Organization":       name(w.Organization(t.Context(), "acme")),
			"OrganizationByID":   name(w.OrganizationByID(t.Context(), o.ID)),
			"MembersOf":          name(w.MembersOf(t.Context(), o.ID)),
			"AddMember":          name(w.AddMember(t.Context(), alice, o.ID, "carol", identity.RoleMember)),
			"SetRole":            w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin),
			"RemoveMember":       w.RemoveMember(t.Context(), alice, o.ID, "bob"),
			"UpdateOrganization": name(w.UpdateOrganization(t.Context(), alice, o.ID, identity.OrganizationChange{Name: set("x")})),
			"RenameOrganization": name(w.RenameOrganization(t.Context(), alice, o.ID, "x")),
			"BackOrganization":   name(w.BackOrganization(t.Context(), alice, o.ID, identity.Backing{Kind: identity.KindSAMLBacked})),
			"DeleteOrganization": w.DeleteOrganization(t.Context(), alice, o.ID),
			"Invites":            page(w.Invites(t.Context(), o.ID, "", 0)),
			"CreateInvite":       page2(w.CreateInvite(t.Context(), alice, o.ID, "", identity.RoleMember)),
			"RenewInvite":        page2(w.RenewInvite(t.Context(), alice, o.ID, invite.ID)),
			"CancelInvite":       w.CancelInvite(t.Context(), alice, o.ID, invite.ID),
			"InviteBySecret":     name(w.InviteBySecret(t.Context(), secret)),
			"AcceptInvite":       name(w.AcceptInvite(t.Context(), carol, secret)),
			"AcceptInviteTo":     name(w.AcceptInviteTo(t.Context(), carol, invite.ID)),
			"CreateTeam":         name(w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "x"})),
			"Team":               name(w.Team(t.Context(), o.ID, "core")),
			"TeamByID":           name(w.TeamByID(t.Context(), o.ID, team.ID)),
			"DeleteTeam":         w.DeleteTeam(t.Context(), alice, o.ID, "core"),
			"SetTeamMember":      w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamPlain),
		} {
			if err == nil || errs.KindOf(err) != errs.NotFound {
				t.Errorf("%s: %v", what, err)
			}
		}
		members, _, err := w.Members(t.Context(), o.ID, "", 0)
		ok(t, err)
		memberships, err := w.Organizations(t.Context(), bob.UserID)
		ok(t, err)
		rosters, err := w.AllMembers(t.Context())
		ok(t, err)
		teams, err := w.Teams(t.Context(), o.ID)
		ok(t, err)
		teamsOf, err := w.TeamsOf(t.Context(), o.ID, alice.UserID)
		ok(t, err)
		inTeam, err := w.TeamMembers(t.Context(), team.ID)
		ok(t, err)
		invites, err := w.InvitesTo(t.Context(), carol.UserID)
		ok(t, err)
		role, err := w.TeamRoleOf(t.Context(), team.ID, alice.UserID)
		ok(t, err)
		if len(members)+len(memberships)+len(rosters)+len(teams)+len(teamsOf)+len(inTeam)+len(invites) != 0 || role != identity.TeamNobody {
			t.Errorf("%v %v %v %v %v %v %v %v", members, memberships, rosters, teams, teamsOf, inTeam, invites, role)
		}
		_, err = w.CreateOrganization(t.Context(), alice, "acme", "")
		kind(t, err, errs.Conflict)

		ok(t, w.RestoreOrganization(t.Context(), alice, o.ID))
		if got, err := w.Organization(t.Context(), "acme"); err != nil || got != o {
			t.Errorf("restored is %+v, %v", got, err)
		}
		if members, _, err := w.Members(t.Context(), o.ID, "", 0); err != nil || len(members) != 2 {
			t.Errorf("members are %v, %v", members, err)
		}
		_, err = w.AcceptInvite(t.Context(), carol, secret)
		ok(t, err)
		if names := w.events(t, o.ID); !slices.Contains(names, "organization-deleted") || !slices.Contains(names, "organization-restored") {
			t.Errorf("the log has %v", names)
		}
	})
}

func page2(_ identity.Invite, _ string, err error) error { return err }

func TestPurgedOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		kept := w.organization(t, alice, "kept")
		for _, id := range []string{o.ID, kept.ID} {
			_, err := w.CreateTeam(t.Context(), alice, id, identity.NewTeam{Name: "core"})
			ok(t, err)
			_, err = w.CreateTeam(t.Context(), alice, id, identity.NewTeam{Name: "mapped", Group: &identity.TeamGroup{Connector: "github", Kind: identity.KindGitHub, Group: identity.Group{ID: "1"}}})
			ok(t, err)
			_, _, err = w.CreateInvite(t.Context(), alice, id, "", identity.RoleMember)
			ok(t, err)
			w.exec(t, "INSERT INTO sso_sessions (organization_id, user_id, expires) VALUES (?, ?, 1)", id, alice.UserID)
		}
		ok(t, w.DeleteOrganization(t.Context(), alice, o.ID))
		ok(t, w.PurgeOrganization(t.Context(), alice, o.ID))
		for table, want := range map[string]int64{
			"members": 1, "teams": 2, "team_members": 1, "team_groups": 1, "invites": 1, "sso_sessions": 1, "organizations": 2, "names": 3,
		} {
			var n int64
			ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM "+table).Scan(&n).Error)
			if n != want {
				t.Errorf("%s has %d rows, want %d", table, n, want)
			}
		}
		kind(t, w.RestoreOrganization(t.Context(), alice, o.ID), errs.NotFound)
		kind(t, w.PurgeOrganization(t.Context(), alice, o.ID), errs.NotFound)
		_, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		kind(t, err, errs.Conflict)
		deleted, _, err := w.AllOrganizations(t.Context(), identity.OrganizationQuery{Deleted: true})
		ok(t, err)
		if names := w.events(t, audit.Site); names[0] != "organization-purged" || len(deleted) != 0 || w.events(t, o.ID)[0] != "organization-purged" {
			t.Errorf("the site's log has %v, deleted are %v", names, deleted)
		}
	})
}

func TestAllOrganizations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		for i := range 5 {
			w.organization(t, alice, fmt.Sprintf("Org%d", i))
		}
		o := w.organization(t, alice, "beta_x")
		w.add(t, o, "bob", identity.RoleMember)
		ok(t, w.DeleteOrganization(t.Context(), alice, w.organization(t, alice, "gone").ID))
		var seen []string
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := w.AllOrganizations(t.Context(), identity.OrganizationQuery{Cursor: cursor, Limit: 4})
			ok(t, err)
			for _, s := range page {
				seen = append(seen, fmt.Sprint(s.Organization.Login, " ", s.Members))
			}
			cursor = next
		}
		if want := []string{"beta_x 2", "Org0 1", "Org1 1", "Org2 1", "Org3 1", "Org4 1"}; !slices.Equal(seen, want) {
			t.Errorf("organizations are %v", seen)
		}
		for text, want := range map[string]int{"oRG": 5, "3": 1, "_": 1, "%": 0, "!": 0, "gone": 0} {
			page, _, err := w.AllOrganizations(t.Context(), identity.OrganizationQuery{Text: text})
			if err != nil || len(page) != want {
				t.Errorf("%q finds %v, %v", text, page, err)
			}
		}
		page, _, err := w.AllOrganizations(t.Context(), identity.OrganizationQuery{Deleted: true})
		ok(t, err)
		if len(page) != 1 || page[0].Organization.Login != "gone" || !page[0].Deleted.Equal(w.clock.now()) {
			t.Errorf("deleted are %+v", page)
		}
	})
}

// A change that cannot be recorded is not made.
func TestNoChangeWithoutItsRecord(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, gone := w.organization(t, alice, "acme"), w.organization(t, alice, "gone")
		ok(t, w.DeleteOrganization(t.Context(), alice, gone.ID))
		bob := w.add(t, o, "bob", identity.RoleMember)
		carol, dave := w.verified(t, "carol"), w.verified(t, "dave")
		_, open := w.invite(t, alice, o, "")
		pending, _ := w.invite(t, alice, o, "x@example.com")
		_, forwarded := w.invite(t, alice, o, "y@example.com")
		waiting, secret := w.invite(t, alice, o, "z@example.com")
		_, err := w.AcceptInvite(t.Context(), dave, secret)
		ok(t, err)
		w.team(t, o, identity.NewTeam{Name: "core"})
		synced := w.team(t, o, identity.NewTeam{Name: "synced", Kind: identity.TeamSCIM})
		group := identity.TeamGroup{Connector: "okta", Kind: identity.KindOIDC, Group: identity.Group{ID: "1"}}
		mapped := w.team(t, o, identity.NewTeam{Name: "mapped", Group: &group})
		heard := 0
		w.OnChange(func(string) { heard++ })
		before := dump(t, w.db)
		w.audit.fail = func() error { return errors.New("the disk is full") }
		name := func(_ any, err error) error { return err }
		for what, change := range map[string]func() error{
			"update": func() error {
				return name(w.UpdateOrganization(t.Context(), alice, o.ID, identity.OrganizationChange{Name: set("x")}))
			},
			"rename": func() error { return name(w.RenameOrganization(t.Context(), alice, o.ID, "x")) },
			"back": func() error {
				return name(w.BackOrganization(t.Context(), alice, o.ID, identity.Backing{Kind: identity.KindSAMLBacked}))
			},
			"delete":  func() error { return w.DeleteOrganization(t.Context(), alice, o.ID) },
			"restore": func() error { return w.RestoreOrganization(t.Context(), alice, gone.ID) },
			"purge":   func() error { return w.PurgeOrganization(t.Context(), alice, gone.ID) },
			"remove":  func() error { return w.RemoveMember(t.Context(), alice, o.ID, "bob") },
			"invite": func() error {
				return page2(w.CreateInvite(t.Context(), alice, o.ID, "x@example.com", identity.RoleAdmin))
			},
			"renew":   func() error { return page2(w.RenewInvite(t.Context(), alice, o.ID, pending.ID)) },
			"cancel":  func() error { return w.CancelInvite(t.Context(), alice, o.ID, pending.ID) },
			"accept":  func() error { return name(w.AcceptInvite(t.Context(), carol, open)) },
			"request": func() error { return name(w.AcceptInvite(t.Context(), carol, forwarded)) },
			"approve": func() error { return name(w.ApproveInvite(t.Context(), alice, o.ID, waiting.ID)) },
			"team":    func() error { return name(w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "new"})) },
			"update team": func() error {
				return name(w.UpdateTeam(t.Context(), alice, o.ID, "core", identity.TeamChange{Name: set("x")}))
			},
			"delete team": func() error { return w.DeleteTeam(t.Context(), alice, o.ID, "core") },
			"set member":  func() error { return w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamAdmin) },
			"replace": func() error {
				return w.ReplaceTeamMembers(t.Context(), alice, o.ID, synced.ID, []string{bob.UserID})
			},
			"map":   func() error { return w.MapGroup(t.Context(), alice, o.ID, "core", group) },
			"unmap": func() error { return w.UnmapGroup(t.Context(), alice, o.ID, mapped.Name, group) },
		} {
			if err := change(); err == nil {
				t.Errorf("%s: done without a record", what)
			}
		}
		if dump(t, w.db) != before || heard != 0 {
			t.Errorf("something has changed, heard %d", heard)
		}
	})
}
