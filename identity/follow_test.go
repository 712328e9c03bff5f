package identity_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
)

func groups(names ...string) []identity.Group {
	out := []identity.Group{} // not nil: the provider does say
	for _, name := range names {
		g := identity.Group{ID: "id-" + name, Path: name}
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			g.Parent = "id-" + name[:i]
		}
		out = append(out, g)
	}
	return out
}

// logged returns the names of the events since the last call with their log's place:
// "site" or an organization.
func (w *world) logged(names map[string]string) string {
	w.audit.mu.Lock()
	defer w.audit.mu.Unlock()
	var out []string
	for _, e := range w.audit.entries {
		log := e.log
		if name, known := names[log]; known {
			log = name
		}
		out = append(out, log+" "+e.event.Name+" "+e.event.Object)
	}
	w.audit.entries = nil
	return strings.Join(out, ", ")
}

func TestMembershipsFollowGroups(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		beta := w.backed(t, "beta", "github", "github", "id-beta")
		other := w.backed(t, "other", "gitlab", "gitlab", "id-acme") // of another provider
		hidden := w.backed(t, "hidden", "github", "github", "id-hidden")
		w.exec(t, "UPDATE organizations SET deleted = 1 WHERE id = ?", hidden.ID)
		names := map[string]string{acme.ID: "acme", beta.ID: "beta", audit.Site: "site"}
		var heard []string
		w.OnChange(func(id string) { heard = append(heard, names[id]) })
		arrive := func(g []identity.Group) {
			t.Helper()
			w.audit.take()
			heard = nil
			w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: g})
			slices.Sort(heard)
		}
		is := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s:\n%s, want\n%s", what, got, want)
			}
		}

		g := groups("acme", "acme/Platform Team", "acme/ops", "hidden", "hidden/x")
		g[0].Admin = true
		arrive(g)
		is("acme", w.roles(t, acme), "{alice admin github}")
		is("beta, other, hidden", w.roles(t, beta)+w.roles(t, other)+w.roles(t, hidden), "")
		is("teams", w.teams(t, acme), "Platform-Team:alice ops:alice")
		is("no teams", w.teams(t, hidden), "")
		is("heard", strings.Join(heard, " "), "acme")
		byLog := strings.Split(w.logged(names), ", ")
		slices.Sort(byLog)
		is("events", strings.Join(byLog, ", "), "acme member-added user:alice, acme team-created team:Platform-Team, acme team-created team:ops, "+
			"acme team-member-added team:Platform-Team, acme team-member-added team:ops, site user-created user:alice, site user-login user:alice")

		// Nothing new is nothing on record.
		arrive(g)
		is("heard", strings.Join(heard, " "), "")
		is("events", w.logged(names), "site user-login user:alice")
		// A provider that says nothing changes nothing.
		arrive(nil)
		is("events", w.logged(names), "site user-login user:alice")
		is("acme", w.roles(t, acme), "{alice admin github}")

		// The role is changed here, and stays whatever the provider says.
		ok(t, w.SetRole(t.Context(), identity.Principal{}, acme.ID, "alice", identity.RoleAdmin))
		w.exec(t, "UPDATE members SET role = 'member'")
		arrive(g)
		is("acme", w.roles(t, acme), "{alice member github}")

		arrive(groups("beta", "acme", "acme/ops"))
		is("teams", w.teams(t, acme), "Platform-Team: ops:alice")
		is("beta", w.roles(t, beta), "{alice member github}")
		is("heard", strings.Join(heard, " "), "acme beta")

		arrive(groups("beta"))
		is("acme", w.roles(t, acme), "")
		is("teams", w.teams(t, acme), "Platform-Team: ops:")
		is("beta", w.roles(t, beta), "{alice member github}")
		arrive(groups())
		is("beta", w.roles(t, beta), "")
		is("events", w.logged(names), "beta member-removed user:alice, site user-login user:alice")

		// Who was added here stays, and is in the teams while in the groups.
		alice, err := w.UserByLogin(t.Context(), "alice")
		ok(t, err)
		w.member(t, acme, alice.ID, identity.RoleMember, "")
		arrive(groups("acme/ops"))
		is("teams", w.teams(t, acme), "Platform-Team: ops:alice")
		arrive(groups())
		is("acme", w.roles(t, acme), "{alice member }")
		is("teams", w.teams(t, acme), "Platform-Team: ops:")
	})
}

func TestMirroredTeamsGetNames(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "gitlab", "gitlab", "id-acme")
		w.mapped(t, acme, "Ops", "", "")
		g := groups("acme", "acme/ops", "acme/日本", "acme/"+strings.Repeat("x", 150))
		g = append(g, identity.Group{ID: "deep", Path: "acme/sub/ops", Parent: "id-acme"}, identity.Group{ID: "id-acme/ops", Path: "acme/twice", Parent: "id-acme"})
		w.arrive(t, gitlab, identity.External{Subject: "1", Login: "alice", Groups: g})
		want := "Ops: ops-2:alice ops-3:alice team:alice " + strings.Repeat("x", 100) + ":alice"
		if got := w.teams(t, acme); got != want {
			t.Errorf("teams are %s, want %s", got, want)
		}
		var kinds []string
		ok(t, w.db.Reader(t.Context()).Raw("SELECT DISTINCT kind FROM teams ORDER BY kind").Scan(&kinds).Error)
		if fmt.Sprint(kinds) != "[gitlab oidc]" {
			t.Errorf("kinds are %v", kinds)
		}
		// The next one finds the teams.
		w.arrive(t, gitlab, identity.External{Subject: "2", Login: "bob", Groups: g[:2]})
		if got := w.teams(t, acme); !strings.Contains(got, "ops-3:alice,bob ") || strings.Count(got, ":") != strings.Count(want, ":") {
			t.Errorf("teams are %s", got)
		}
	})
}

// SAML-47: groups lead to what an administrator has mapped, and to nothing else.
func TestHostileGroups(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "id-admin") // by mistake: it has no group behind it
		c := saml(acme)
		other := w.backed(t, "other", "saml", c.Name, "id-owners")
		w.mapped(t, acme, "mapped", c.Name, "a,b$$\"'; --")
		w.mapped(t, acme, "late", c.Name, "id-group-600")
		w.mapped(t, acme, "elsewhere", "github", "admin")
		g := groups("admin", "r:orgadmin", "owners", "site_admin", "saml:"+acme.ID)
		for i := range g {
			g[i].Admin = true
		}
		g = append(g, identity.Group{ID: "admin"}, identity.Group{ID: "a,b$$\"'; --"}, identity.Group{ID: "a\nb"}, identity.Group{ID: "\x00"},
			identity.Group{ID: "\xff"}, identity.Group{}, identity.Group{ID: strings.Repeat("x", 1<<20)}, identity.Group{ID: "admin"})
		for i := range 10_000 {
			g = append(g, groups(fmt.Sprint("group-", i))...)
		}
		w.audit.take()
		in := w.arrive(t, c, identity.External{Subject: "mallory", Login: "admin", Groups: g})
		if got := w.roles(t, acme); got != "{admin member "+c.Name+"}" || in.User.SiteAdmin {
			t.Errorf("is %s", got)
		}
		if got := w.roles(t, other); got != "" {
			t.Errorf("members of another organization are %s", got)
		}
		if got := w.teams(t, acme); got != "elsewhere: late: mapped:admin" {
			t.Errorf("teams are %s", got)
		}
		var ignored string
		for _, e := range w.audit.entries {
			if e.event.Name == "user-login" {
				ignored = e.event.Details["groups_ignored"]
			}
		}
		if ignored != "9507" { // 500 of 5 + 2 + 10,000 that are different and can be stored
			t.Errorf("%q were ignored", ignored)
		}
		linked, err := w.LinkedIdentities(t.Context(), in.User.ID)
		if err != nil || len(linked) != 1 || len(linked[0].Groups) != 500 {
			t.Errorf("%d groups are kept, %v", len(linked[0].Groups), err)
		}
	})
}

func TestProvidersDoNotTakeFromEachOther(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "pulumi", "", "")
		w.mapped(t, acme, "ops", "github", "id-ops")
		w.mapped(t, acme, "ops", "corp", "id-ops")
		w.mapped(t, acme, "dev", "corp", "id-dev")
		one := w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: groups("ops")})
		w.member(t, acme, one.User.ID, identity.RoleMember, "")
		is := func(want string) {
			t.Helper()
			if got := w.teams(t, acme); got != want {
				t.Errorf("teams are %s, want %s", got, want)
			}
		}
		is("dev: ops:")
		p, err := w.AuthenticateSession(t.Context(), one.Secret)
		ok(t, err)
		ok(t, w.Link(t.Context(), p, oidc, w.flow(), identity.External{Subject: "2", Groups: groups("ops", "dev")}))
		is("dev:alice ops:alice")
		w.arrive(t, oidc, identity.External{Subject: "2", Groups: groups()})
		is("dev: ops:alice")
		w.arrive(t, github, identity.External{Subject: "1", Groups: groups()})
		is("dev: ops:")
		// Two identities at one provider.
		ok(t, w.Link(t.Context(), p, oidc, w.flow(), identity.External{Subject: "3", Groups: groups("dev")}))
		is("dev:alice ops:")
		w.arrive(t, oidc, identity.External{Subject: "2", Groups: groups("ops")})
		is("dev:alice ops:alice")
		ok(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "corp", Subject: "3"}))
		is("dev: ops:alice")
	})
}

// An organization's own members keep what they have when they unlink its provider;
// what came from the provider goes.
func TestUnlinkingTheProviderOfAnOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		c := saml(acme)
		for _, source := range []string{"", c.Name} {
			u := w.newUser(t, "by-"+fmt.Sprint(len(source)))
			p := w.fresh(t, u)
			w.member(t, acme, u.ID, identity.RoleMember, "")
			ok(t, w.Link(t.Context(), p, c, w.flow(), identity.External{Subject: u.ID}))
			w.exec(t, "UPDATE members SET source = ? WHERE user_id = ?", source, u.ID)
			ok(t, w.Unlink(t.Context(), p, identity.Identity{Connector: c.Name, Subject: u.ID}))
			if in := strings.Contains(w.roles(t, acme), u.Login+" "); in != (source == "") {
				t.Errorf("source %q: members are %s", source, w.roles(t, acme))
			}
		}
	})
}

// A provider that says nothing of groups does not bring back what was taken away here.
func TestSilentProviders(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		in := w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: groups("acme")})
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		ok(t, w.Link(t.Context(), p, github, w.flow(), identity.External{Subject: "2"}))
		w.exec(t, "DELETE FROM members")
		w.arrive(t, github, identity.External{Subject: "2"})
		if got := w.roles(t, acme); got != "" {
			t.Errorf("members are %s", got)
		}
	})
}

// What an arrival asks does not grow with the groups, unless they change something.
func TestArrivalsAskAFewQuestions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		g := groups("acme")
		for i := range 400 {
			g = append(g, groups(fmt.Sprint("acme/team-", i))...)
		}
		w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: g})
		if got := strings.Count(w.teams(t, acme), ":alice"); got != 400 {
			t.Fatalf("in %d teams", got)
		}
		ask := func(g []identity.Group) int {
			n := 0
			count := func() { n++ }
			w.count(count)
			defer w.count(nil)
			w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: g})
			return n
		}
		many := ask(g)
		ask(g[:2])
		few := ask(g[:2])
		if many != few || many > 20 {
			t.Errorf("%d questions for 401 groups, %d for 2", many, few)
		}
		t.Logf("%d statements", many)
	})
}

func BenchmarkArrive(b *testing.B) {
	w := newSQLite(b)
	acme := w.backed(b, "acme", "github", "github", "id-acme")
	_ = acme
	g := groups("acme", "acme/one", "acme/two", "acme/three")
	for b.Loop() {
		w.arrive(b, github, identity.External{Subject: "1", Login: "alice", Name: "Alice", Groups: g})
	}
}
