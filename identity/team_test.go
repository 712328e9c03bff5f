package identity_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func (w *world) team(t testing.TB, o identity.Organization, n identity.NewTeam) identity.Team {
	t.Helper()
	team, err := w.CreateTeam(t.Context(), identity.Principal{}, o.ID, n)
	ok(t, err)
	return team
}

// inTeam returns the members of a team as "login:role".
func (w *world) inTeam(t testing.TB, team identity.Team) []string {
	t.Helper()
	members, err := w.TeamMembers(t.Context(), team.ID)
	ok(t, err)
	var out []string
	for _, m := range members {
		out = append(out, m.User.Login+":"+string(m.Role))
	}
	return out
}

func TestTeam(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, other := w.organization(t, alice, "acme"), w.organization(t, alice, "other")
		bob := w.add(t, o, "bob", identity.RoleMember)
		stranger := w.user(t, "stranger")
		w.audit.take()
		team, err := w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "Core", Description: "the \x00core"})
		ok(t, err)
		want := identity.Team{
			ID: team.ID, OrganizationID: o.ID, Name: "Core", DisplayName: "Core", Description: "the core", Kind: "pulumi", Members: 1, Created: w.clock.now(),
		}
		found, err := w.Team(t.Context(), o.ID, "cORE")
		ok(t, err)
		if fmt.Sprint(team) != fmt.Sprint(want) || fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("made %+v, found %+v", team, found)
		}
		for name, c := range map[string]struct {
			name string
			want errs.Kind
		}{
			"taken": {"CORE", errs.Conflict}, "empty": {"", errs.Invalid}, "a slash": {"a/b", errs.Invalid}, "101 characters": {strings.Repeat("a", 101), errs.Invalid}, "a dash first": {"-a", errs.Invalid},
		} {
			if _, err := w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: c.name}); err == nil || errs.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.team(t, other, identity.NewTeam{Name: "core"})
		w.team(t, o, identity.NewTeam{Name: strings.Repeat("a", 100)})
		byStranger, err := w.CreateTeam(t.Context(), stranger, o.ID, identity.NewTeam{Name: "zz"})
		ok(t, err)
		if byStranger.Members != 0 || len(w.inTeam(t, byStranger)) != 0 {
			t.Error("somebody is in a team who is no member of the organization")
		}
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "BOB", identity.TeamPlain))
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamPlain)) // as it is
		kind(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "stranger", identity.TeamPlain), errs.NotFound)
		kind(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamNobody), errs.Invalid)
		kind(t, w.SetTeamMember(t.Context(), alice, o.ID, "none", "bob", identity.TeamPlain), errs.NotFound)
		if got := w.inTeam(t, team); !slices.Equal(got, []string{"alice:admin", "bob:member"}) {
			t.Errorf("in the team are %v", got)
		}
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamAdmin))
		if role, err := w.TeamRoleOf(t.Context(), team.ID, bob.UserID); err != nil || role != identity.TeamAdmin {
			t.Errorf("bob is %s, %v", role, err)
		}
		if role, err := w.TeamRoleOf(t.Context(), team.ID, stranger.UserID); err != nil || role != identity.TeamNobody {
			t.Errorf("a stranger is %s, %v", role, err)
		}
		ok(t, w.RemoveTeamMember(t.Context(), alice, o.ID, "core", "alice"))
		kind(t, w.RemoveTeamMember(t.Context(), alice, o.ID, "core", "alice"), errs.NotFound)
		teams, err := w.TeamsOf(t.Context(), o.ID, bob.UserID)
		ok(t, err)
		if len(teams) != 1 || teams[0].ID != team.ID || teams[0].Members != 1 {
			t.Errorf("teams of bob are %+v", teams)
		}
		changed, err := w.UpdateTeam(t.Context(), alice, o.ID, "core", identity.TeamChange{Name: set("platform"), Description: set("")})
		ok(t, err)
		if changed.Name != "platform" || changed.Description != "" || changed.DisplayName != "Core" {
			t.Errorf("changed to %+v", changed)
		}
		_, err = w.UpdateTeam(t.Context(), alice, o.ID, "platform", identity.TeamChange{Name: set("ZZ")})
		kind(t, err, errs.Conflict)
		_, err = w.UpdateTeam(t.Context(), alice, o.ID, "platform", identity.TeamChange{Name: set("")})
		kind(t, err, errs.Invalid)
		_, err = w.Team(t.Context(), o.ID, "core")
		kind(t, err, errs.NotFound)
		ok(t, w.DeleteTeam(t.Context(), alice, o.ID, "PLATFORM"))
		kind(t, w.DeleteTeam(t.Context(), alice, o.ID, "platform"), errs.NotFound)
		if names := w.events(t, o.ID); !slices.Equal(names[:8], []string{"team-deleted", "team-updated", "team-updated", "team-updated", "team-updated", "team-created", "team-created", "team-created"}) {
			t.Errorf("the log has %v", names)
		}
	})
}

func TestWhoLeavesAnOrganizationLeavesItsTeams(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, other := w.organization(t, alice, "acme"), w.organization(t, alice, "other")
		bob := w.add(t, o, "bob", identity.RoleMember)
		_, err := w.AddMember(t.Context(), alice, other.ID, "bob", identity.RoleMember)
		ok(t, err)
		teams := []identity.Team{w.team(t, o, identity.NewTeam{Name: "core"}), w.team(t, other, identity.NewTeam{Name: "core"})}
		for _, team := range teams {
			ok(t, w.SetTeamMember(t.Context(), alice, team.OrganizationID, "core", "bob", identity.TeamAdmin))
		}
		w.exec(t, "INSERT INTO sso_sessions (organization_id, user_id, expires) VALUES (?, ?, 1)", o.ID, bob.UserID)
		ok(t, w.RemoveMember(t.Context(), alice, o.ID, "bob"))
		var sso int64
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM sso_sessions").Scan(&sso).Error)
		if left, kept := w.inTeam(t, teams[0]), w.inTeam(t, teams[1]); len(left) != 0 || len(kept) != 1 || sso != 0 {
			t.Errorf("in the teams are %v and %v; %d single sign-ons", left, kept, sso)
		}
		ok(t, w.RemoveMember(t.Context(), alice, other.ID, "bob"))
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", identity.RoleMember)
		ok(t, err)
		if teams, err := w.TeamsOf(t.Context(), o.ID, bob.UserID); err != nil || len(teams) != 0 {
			t.Errorf("back in %v, %v", teams, err)
		}
	})
}

func TestMappedTeam(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, other := w.organization(t, alice, "acme"), w.organization(t, alice, "other")
		w.add(t, o, "bob", identity.RoleMember)
		team, err := w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "core"})
		ok(t, err)
		own := identity.TeamGroup{Connector: identity.SAMLConnector(o.ID), Group: identity.Group{ID: "engineers", Admin: true}}
		github := identity.TeamGroup{Connector: "github", Kind: identity.KindGitHub, Group: identity.Group{ID: "7", Path: "acme/core"}}
		for name, g := range map[string]identity.TeamGroup{
			"another's SAML":      {Connector: identity.SAMLConnector(other.ID), Group: identity.Group{ID: "x"}},
			"no kind":             {Connector: "okta", Group: identity.Group{ID: "x"}},
			"no group":            {Connector: "okta", Kind: identity.KindOIDC},
			"no connector":        {Kind: identity.KindOIDC, Group: identity.Group{ID: "x"}},
			"e-mail":              {Connector: "email", Kind: identity.KindEmail, Group: identity.Group{ID: "x"}},
			"SCIM":                {Connector: "scim", Kind: identity.KindSCIM, Group: identity.Group{ID: "x"}},
			"SAML of nobody":      {Connector: "okta", Kind: identity.KindSAML, Group: identity.Group{ID: "x"}},
			"SAML called GitHub":  {Connector: identity.SAMLConnector(o.ID), Kind: identity.KindGitHub, Group: identity.Group{ID: "x"}},
			"a control character": {Connector: "okta", Kind: identity.KindOIDC, Group: identity.Group{ID: "x\x00"}},
		} {
			if err := w.MapGroup(t.Context(), alice, o.ID, "core", g); err == nil || errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.audit.take()
		ok(t, w.MapGroup(t.Context(), alice, o.ID, "core", own))
		ok(t, w.MapGroup(t.Context(), alice, o.ID, "core", own)) // as it is
		second := own
		second.Group = identity.Group{ID: "admins", Path: "Admins"}
		ok(t, w.MapGroup(t.Context(), alice, o.ID, "core", second))
		kind(t, w.MapGroup(t.Context(), alice, o.ID, "core", github), errs.Conflict)
		found, err := w.Team(t.Context(), o.ID, "core")
		ok(t, err)
		want := []identity.TeamGroup{
			{Connector: own.Connector, Kind: identity.KindSAML, Group: identity.Group{ID: "admins", Path: "Admins"}},
			{Connector: own.Connector, Kind: identity.KindSAML, Group: identity.Group{ID: "engineers", Path: "engineers"}},
		}
		if found.Kind != "saml" || !found.ReadOnly() || !slices.Equal(found.Groups, want) {
			t.Errorf("the team is %+v", found)
		}
		kind(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamPlain), errs.Conflict)
		kind(t, w.RemoveTeamMember(t.Context(), alice, o.ID, "core", "alice"), errs.Conflict)
		kind(t, w.AddTeamMembers(t.Context(), alice, o.ID, team.ID, []string{alice.UserID}), errs.Conflict)
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "alice", identity.TeamPlain)) // the role alone
		if got := w.inTeam(t, team); !slices.Equal(got, []string{"alice:member"}) {
			t.Errorf("in the team are %v", got)
		}
		ok(t, w.UnmapGroup(t.Context(), alice, o.ID, "core", own))
		kind(t, w.UnmapGroup(t.Context(), alice, o.ID, "core", own), errs.NotFound)
		if found, err := w.Team(t.Context(), o.ID, "core"); err != nil || found.Kind != "saml" || len(found.Groups) != 1 {
			t.Errorf("the team is %+v, %v", found, err)
		}
		ok(t, w.UnmapGroup(t.Context(), alice, o.ID, "core", second))
		if found, err := w.Team(t.Context(), o.ID, "core"); err != nil || found.ReadOnly() || len(found.Groups) != 0 {
			t.Errorf("the team is %+v, %v", found, err)
		}
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "core", "bob", identity.TeamPlain))
		if events := w.audit.take(); len(events) != 6 {
			t.Errorf("recorded %v", events)
		}
		mapped, err := w.CreateTeam(t.Context(), alice, o.ID, identity.NewTeam{Name: "mapped", Group: &github})
		ok(t, err)
		if mapped.Kind != "github" || mapped.Members != 0 || len(mapped.Groups) != 1 {
			t.Errorf("made %+v", mapped)
		}
		ok(t, w.UnmapGroup(t.Context(), alice, o.ID, "mapped", identity.TeamGroup{Connector: "github", Group: identity.Group{ID: "7"}}))
		for name, n := range map[string]identity.NewTeam{
			"kind without a group": {Name: "x", Kind: "github"},
			"kind of another":      {Name: "x", Kind: "oidc", Group: &github},
			"SCIM with a group":    {Name: "x", Kind: "scim", Group: &github},
			"another's SAML":       {Name: "x", Group: &identity.TeamGroup{Connector: identity.SAMLConnector(other.ID), Group: identity.Group{ID: "x"}}},
		} {
			if _, err := w.CreateTeam(t.Context(), alice, o.ID, n); err == nil || errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.team(t, o, identity.NewTeam{Name: "synced", Kind: identity.TeamSCIM})
		kind(t, w.MapGroup(t.Context(), alice, o.ID, "synced", own), errs.Conflict)
	})
}

// crowd makes n members of an organization and returns their IDs, by login.
func (w *world) crowd(t testing.TB, o identity.Organization, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("crowd-%06d", i)
	}
	for chunk := range slices.Chunk(ids, 200) {
		var users, names, members []string
		var userArgs, memberArgs []any
		for _, id := range chunk {
			users = append(users, "(?, ?, '', '', '', FALSE, 0, 1, 1)")
			names = append(names, "(?, 'user', ?)")
			userArgs = append(userArgs, id, id)
			members = append(members, "(?, ?, 'member', 1)")
			memberArgs = append(memberArgs, o.ID, id)
		}
		w.exec(t, "INSERT INTO users (id, login, name, email, avatar_url, site_admin, disabled, generation, created) VALUES "+strings.Join(users, ", "), userArgs...)
		w.exec(t, "INSERT INTO names (folded, kind, owner) VALUES "+strings.Join(names, ", "), userArgs...)
		w.exec(t, "INSERT INTO members (organization_id, user_id, role, created) VALUES "+strings.Join(members, ", "), memberArgs...)
	}
	return ids
}

func TestTeamMembersAreReplaced(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o, other := w.organization(t, alice, "acme"), w.organization(t, alice, "other")
		ids := w.crowd(t, o, 1100)
		stranger := w.user(t, "stranger")
		team := w.team(t, o, identity.NewTeam{Name: "synced", Kind: identity.TeamSCIM})
		here := w.team(t, o, identity.NewTeam{Name: "here"})
		count := func() int { return len(w.inTeam(t, team)) }
		w.audit.take()

		ok(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, append(ids[:1001:1001], ids[0])))
		if count() != 1001 {
			t.Errorf("%d are in the team", count())
		}
		ok(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, ids[:1001])) // as it is
		ok(t, w.SetTeamMember(t.Context(), alice, o.ID, "synced", ids[1000], identity.TeamAdmin))
		ok(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, ids[1000:]))
		if got := w.inTeam(t, team); len(got) != 100 || got[0] != ids[1000]+":admin" || got[1] != ids[1001]+":member" {
			t.Errorf("in the team are %v", got)
		}
		if events := w.audit.take(); len(events) != 3 {
			t.Errorf("recorded %v", events)
		}
		page, err := w.audit.log.List(t.Context(), o.ID, audit.Query{Event: "team-updated"})
		ok(t, err)
		e := page.Entries[0].Event
		if e.Details["joined"] != "99" || e.Details["left"] != "1000" || strings.Count(e.After["joined"], ", ") != 49 || !strings.HasPrefix(e.After["joined"], ids[1001]+", ") || !strings.HasPrefix(e.Before["left"], ids[0]+", "+ids[1]) {
			t.Errorf("recorded %+v", e)
		}

		// One stranger, and nothing is changed.
		err = w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, []string{ids[0], stranger.UserID, "nobody"})
		kind(t, err, errs.Invalid)
		if !strings.Contains(err.Error(), stranger.UserID) {
			t.Errorf("the error names somebody else: %v", err)
		}
		kind(t, w.AddTeamMembers(t.Context(), alice, o.ID, team.ID, []string{ids[0], stranger.UserID}), errs.Invalid)
		for _, wrong := range []string{"", "\x00", "\xff", "'", `"]`, strings.Repeat("x", 1000)} {
			kind(t, w.AddTeamMembers(t.Context(), alice, o.ID, team.ID, []string{wrong}), errs.Invalid)
			ok(t, w.RemoveTeamMembers(t.Context(), alice, o.ID, team.ID, []string{wrong}))
		}
		if count() != 100 || len(w.audit.take()) != 0 {
			t.Errorf("%d are in the team", count())
		}
		kind(t, w.ReplaceTeamMembers(t.Context(), alice, other.ID, team.ID, nil), errs.NotFound)
		kind(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, here.ID, ids[:1]), errs.Conflict)

		ok(t, w.AddTeamMembers(t.Context(), alice, o.ID, team.ID, ids[990:1010]))
		if count() != 110 {
			t.Errorf("%d are in the team", count())
		}
		ok(t, w.RemoveTeamMembers(t.Context(), alice, o.ID, team.ID, append(ids[:1000:1000], "nobody", ids[999])))
		if count() != 100 {
			t.Errorf("%d are in the team", count())
		}
		ok(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, nil))
		if count() != 0 {
			t.Errorf("%d are in the team", count())
		}
	})
}

// Whatever is asked for, in whatever order: the team is what a set would be.
func TestTeamIsASet(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...))
	alice := w.user(t, "alice")
	o := w.organization(t, alice, "acme")
	ids := w.crowd(t, o, 8)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		team := w.team(t, o, identity.NewTeam{Name: fmt.Sprint("team", n), Kind: identity.TeamSCIM})
		want := map[string]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"replace": func(rt *rapid.T) {
				some := rapid.SliceOf(rapid.SampledFrom(ids)).Draw(rt, "ids")
				ok(t, w.ReplaceTeamMembers(t.Context(), alice, o.ID, team.ID, some))
				clear(want)
				for _, id := range some {
					want[id] = true
				}
			},
			"add": func(rt *rapid.T) {
				some := rapid.SliceOf(rapid.SampledFrom(ids)).Draw(rt, "ids")
				ok(t, w.AddTeamMembers(t.Context(), alice, o.ID, team.ID, some))
				for _, id := range some {
					want[id] = true
				}
			},
			"remove": func(rt *rapid.T) {
				some := rapid.SliceOf(rapid.SampledFrom(ids)).Draw(rt, "ids")
				ok(t, w.RemoveTeamMembers(t.Context(), alice, o.ID, team.ID, some))
				for _, id := range some {
					delete(want, id)
				}
			},
			"": func(rt *rapid.T) {
				var got []string
				for _, m := range w.inTeam(t, team) {
					got = append(got, strings.TrimSuffix(m, ":member"))
				}
				if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
					rt.Fatalf("in the team are %v, want %v", got, want)
				}
			},
		})
	})
}

// The members of one team of 5,000 change places with 5,000 others.
func BenchmarkReplaceTeamMembers(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": databasetest.SQLiteURL, "postgres": databasetest.PostgresURL} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, databasetest.Open(b, url(b), migrations...))
			alice := w.user(b, "alice")
			o := w.organization(b, alice, "acme")
			ids := w.crowd(b, o, 10_000)
			team := w.team(b, o, identity.NewTeam{Name: "synced", Kind: identity.TeamSCIM})
			half := 0
			for b.Loop() {
				ok(b, w.ReplaceTeamMembers(b.Context(), alice, o.ID, team.ID, ids[half*5000:half*5000+5000]))
				half = 1 - half
			}
		})
	}
}

// A page from the middle of 100,000 members.
func BenchmarkMembers(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": databasetest.SQLiteURL, "postgres": databasetest.PostgresURL} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, databasetest.Open(b, url(b), migrations...))
			o := w.organization(b, w.user(b, "alice"), "acme")
			w.crowd(b, o, 100_000)
			w.exec(b, "ANALYZE")
			start := time.Now()
			_, cursor, err := w.Members(b.Context(), o.ID, "", 1000)
			ok(b, err)
			b.ReportMetric(float64(time.Since(start).Milliseconds()), "first-ms")
			for b.Loop() {
				_, _, err := w.Members(b.Context(), o.ID, cursor, 100)
				ok(b, err)
			}
		})
	}
}
