package rbac_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/rbac"
)

// Names that differ in little, or look like something else. Identity does not let
// most of them be, but no decision may depend on that.
var (
	logins   = []string{"acme", "Acme", "acme2", "role:organization-admin", "organization:acme", "acme/web"}
	users    = []string{"u1", "u2", "user:u1", "role:organization-admin", "role:stack-admin", "U1", "*", ""}
	projects = []string{"web", "Web", "web/prod", "my.proj", "myXproj", "*", ".."}
	stacks   = []string{"prod", "prod2", "web/prod", "*", "prod "}
)

func TestIndexEqualsCasbin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		snapshot := rbac.Compile(w.rules())
		compare(rt, w, snapshot)
		for i := range rapid.IntRange(0, 8).Draw(rt, "changes") {
			before := snapshot
			snapshot = snapshot.With(int64(i)+2, w.change(rt)...)
			if before.Version() >= snapshot.Version() {
				rt.Fatal("the version has not grown")
			}
		}
		compare(rt, w, snapshot)
		again := rbac.Compile(w.rules())
		same(rt, snapshot, again)
		for _, user := range users {
			if got, want := snapshot.Organizations(user), again.Organizations(user); !slices.Equal(got, want) {
				rt.Fatalf("organizations of %q after changes: %v, compiled anew: %v", user, got, want)
			}
		}
	})
}

// compare asks a snapshot and casbin the same.
func compare(rt *rapid.T, w *world, snapshot *rbac.Snapshot) {
	reference, err := rbac.NewReference(w.rules())
	if err != nil {
		rt.Fatal(err)
	}
	permissions := append(slices.Clone(rbac.AllPermissions()), "", "stack:fly", "*", "Stack:read")
	likely := []rbac.Permission{"stack:read", "stack:write", "stack:delete", "stack:create", "organization:member", "audit_logs:read"}
	for range 12 {
		user := rapid.SampledFrom(append(users, "stranger")).Draw(rt, "user")
		permission := rapid.OneOf(rapid.SampledFrom(likely), rapid.SampledFrom(permissions)).Draw(rt, "permission")
		object := rbac.Object{Organization: rapid.SampledFrom(append(logins, "", "ACME")).Draw(rt, "organization")}
		if rapid.IntRange(0, 3).Draw(rt, "of the organization") > 0 {
			object.Project = rapid.SampledFrom(append(projects, "")).Draw(rt, "project")
			object.Stack = rapid.SampledFrom(append(stacks, "")).Draw(rt, "stack")
		}
		if granted := w.rows(func(rbac.GrantRow) bool { return true }); len(granted) > 0 && rapid.Bool().Draw(rt, "about a grant") {
			row := rapid.SampledFrom(granted).Draw(rt, "grant")
			user, object.Project, object.Stack = row.UserID, row.Project, row.Stack
			if rapid.Bool().Draw(rt, "about its level") {
				permission = rapid.SampledFrom(likely[:3]).Draw(rt, "level's permission")
			}
			if roster, ok := w.rosters[row.OrgID]; ok {
				object.Organization = roster.Organization.Login
			}
		}
		got := snapshot.Decide(user, permission, object)
		want, err := reference.Decide(user, permission, object)
		if err != nil {
			rt.Fatal(err)
		}
		if got.Allow != want.Allow {
			rt.Fatalf("%q, %q, %+v: index %+v, casbin %+v", user, permission, object, got, want)
		}
		if permission != "" && got.Visible != want.Visible {
			rt.Fatalf("%q, %q, %+v: index says visible %v, casbin %v", user, permission, object, got.Visible, want.Visible)
		}
		if got.Rule == "" {
			rt.Fatalf("%q, %q, %+v: no rule is named", user, permission, object)
		}
	}
}

// same holds a snapshot that has been through changes against one compiled anew, in
// everything that could be asked about their names.
func same(rt *rapid.T, changed, anew *rbac.Snapshot) {
	for _, login := range logins {
		for _, project := range projects {
			for _, stack := range stacks {
				for _, user := range users {
					for _, permission := range []rbac.Permission{"stack:read", "stack:write", "stack:delete"} {
						o := object(login, project, stack)
						if got, want := changed.Decide(user, permission, o), anew.Decide(user, permission, o); got != want {
							rt.Fatalf("%q, %q, %+v: after changes %+v, compiled anew %+v", user, permission, o, got, want)
						}
					}
				}
			}
		}
	}
}

// world is a set of rules that can be changed.
type world struct {
	rosters  map[string]identity.Roster // by organization ID
	defaults map[string]rbac.Level
	grants   map[[4]string]rbac.GrantRow
}

var levels = []rbac.Level{rbac.Read, rbac.Write, rbac.Admin}

func drawWorld(rt *rapid.T) *world {
	w := &world{rosters: map[string]identity.Roster{}, defaults: map[string]rbac.Level{}, grants: map[[4]string]rbac.GrantRow{}}
	for i := range rapid.IntRange(0, 3).Draw(rt, "organizations") {
		w.drawOrganization(rt, fmt.Sprintf("o%d", i), logins[i])
	}
	for range rapid.IntRange(0, 12).Draw(rt, "grants") {
		w.drawGrant(rt, rapid.SampledFrom([]string{"o0", "o1", "o2", "gone"}).Draw(rt, "org"))
	}
	return w
}

func (w *world) drawOrganization(rt *rapid.T, id, login string) {
	w.rosters[id] = identity.Roster{
		Organization: identity.Organization{ID: id, Login: login},
		Roles: rapid.MapOf(rapid.SampledFrom(users),
			rapid.SampledFrom([]identity.Role{identity.RoleMember, identity.RoleMember, identity.RoleAdmin, "owner"})).Draw(rt, "members"),
	}
	delete(w.defaults, id)
	if rapid.Bool().Draw(rt, "default set") {
		w.defaults[id] = rapid.SampledFrom(append(levels, rbac.None)).Draw(rt, "default")
	}
}

func (w *world) drawGrant(rt *rapid.T, org string) rbac.GrantRow {
	row := rbac.GrantRow{
		OrgID: org, Project: rapid.SampledFrom(projects).Draw(rt, "project"), Stack: rapid.SampledFrom(stacks).Draw(rt, "stack"),
		UserID: rapid.SampledFrom(users[:len(users)-1]).Draw(rt, "user"), Level: int64(rapid.SampledFrom(levels).Draw(rt, "level")),
	}
	row.Login = row.UserID
	w.grants[[4]string{row.OrgID, row.Project, row.Stack, row.UserID}] = row
	return row
}

func (w *world) rows(keep func(rbac.GrantRow) bool) []rbac.GrantRow {
	var rows []rbac.GrantRow
	for _, key := range slices.SortedFunc(maps.Keys(w.grants), func(a, b [4]string) int { return slices.Compare(a[:], b[:]) }) {
		if keep(w.grants[key]) {
			rows = append(rows, w.grants[key])
		}
	}
	return rows
}

func (w *world) rules() rbac.Rules {
	var rosters []identity.Roster
	for _, id := range slices.Sorted(maps.Keys(w.rosters)) {
		rosters = append(rosters, w.rosters[id])
	}
	return rbac.NewRules(rosters, w.defaults, w.rows(func(rbac.GrantRow) bool { return true }))
}

// change changes w and returns what an engine would read again.
func (w *world) change(rt *rapid.T) []rbac.Change {
	org := rapid.SampledFrom([]string{"o0", "o1", "o2", "gone"}).Draw(rt, "change in")
	ofStack := func(project, stack string) rbac.Change {
		return rbac.StackChange(org, project, stack, w.rows(func(r rbac.GrantRow) bool {
			return r.OrgID == org && r.Project == project && r.Stack == stack
		}))
	}
	switch rapid.IntRange(0, 4).Draw(rt, "kind") {
	case 0: // a grant
		row := w.drawGrant(rt, org)
		return []rbac.Change{ofStack(row.Project, row.Stack)}
	case 1: // a revocation
		for key, row := range w.grants {
			if row.OrgID == org {
				delete(w.grants, key)
				return []rbac.Change{ofStack(row.Project, row.Stack)}
			}
		}
		return nil
	case 2: // somebody has left
		user := rapid.SampledFrom(users[:len(users)-1]).Draw(rt, "leaver")
		maps.DeleteFunc(w.grants, func(_ [4]string, r rbac.GrantRow) bool { return r.OrgID == org && r.UserID == user })
		return []rbac.Change{rbac.UserChange(org, user, nil)}
	case 3: // an organization is gone
		delete(w.rosters, org)
		return []rbac.Change{rbac.OrganizationChange(org, nil, nil, nil)}
	default: // an organization is new, renamed, or has other members
		login := map[string][]string{"o0": {logins[0], logins[3]}, "o1": {logins[1]}, "o2": {logins[2], logins[4]}, "gone": {logins[5]}}[org]
		w.drawOrganization(rt, org, rapid.SampledFrom(login).Draw(rt, "login"))
		roster := w.rosters[org]
		return []rbac.Change{rbac.OrganizationChange(org, &roster, w.defaults, w.rows(func(r rbac.GrantRow) bool { return r.OrgID == org }))}
	}
}

// Granting never takes away.
func TestGrantingIsMonotone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		row := w.drawGrant(rt, "o0")
		key := [4]string{row.OrgID, row.Project, row.Stack, row.UserID}
		delete(w.grants, key)
		before := rbac.Compile(w.rules())
		w.grants[key] = row
		after := rbac.Compile(w.rules())
		for _, permission := range rbac.AllPermissions() {
			for _, user := range users {
				target := object(logins[0], row.Project, row.Stack)
				if before.Decide(user, permission, target).Allow && !after.Decide(user, permission, target).Allow {
					rt.Fatalf("%s lost %s by a grant to %s", user, permission, row.UserID)
				}
			}
		}
	})
}

func small() *rbac.Snapshot {
	return rbac.Compile(rbac.NewRules([]identity.Roster{
		{Organization: identity.Organization{ID: "o1", Login: "Acme"}, Roles: map[string]identity.Role{
			"u1": identity.RoleAdmin, "u2": identity.RoleMember, "u3": identity.RoleMember}},
		{Organization: identity.Organization{ID: "o2", Login: "beta"}, Roles: map[string]identity.Role{"u2": identity.RoleMember, "u9": identity.RoleAdmin}},
		{Organization: identity.Organization{ID: "o3", Login: "gamma"}, Roles: map[string]identity.Role{"u4": identity.RoleMember}},
	}, map[string]rbac.Level{"o2": rbac.None, "o3": rbac.Write}, []rbac.GrantRow{
		{OrgID: "o3", Project: "web", Stack: "prod", UserID: "u4", Login: "dave", Level: int64(rbac.Read)},
		{OrgID: "o1", Project: "web", Stack: "prod", UserID: "u2", Login: "alice", Level: int64(rbac.Write)},
		{OrgID: "o1", Project: "web", Stack: "prod", UserID: "stranger", Login: "mallory", Level: int64(rbac.Admin)},
	}))
}

func TestRulesAreNamed(t *testing.T) {
	s := small()
	prod, dev := object("Acme", "web", "prod"), object("Acme", "web", "dev")
	for _, c := range []struct {
		user       string
		permission rbac.Permission
		object     rbac.Object
		want       rbac.Decision
	}{
		{"u1", "stack:delete", prod, decision(true, true, "organization role admin")},
		{"u2", "stack:create", rbac.Object{Organization: "Acme", Project: "web"}, decision(true, true, "organization role member")},
		{"u2", "stack:read", prod, decision(true, true, "organization default permission read")},
		{"u2", "stack:write", prod, decision(true, true, "stack permission write (granted to alice)")},
		{"u2", "stack:delete", prod, decision(false, true, "stack permission write does not include it")},
		{"u2", "stack:write", dev, decision(false, true, "stack permission read does not include it")},
		{"u2", "audit_logs:read", rbac.Object{Organization: "Acme"}, decision(false, true, "the organization role does not include it")},
		{"u2", "stack:read", object("beta", "web", "prod"), decision(false, false, "no permission on the stack")},
		{"u4", "stack:write", object("gamma", "web", "prod"), decision(true, true, "organization default permission write")}, // a grant takes nothing away
		{"stranger", "stack:read", prod, decision(false, false, "not a member of the organization")},
		{"u1", "stack:read", object("acme", "web", "prod"), decision(false, false, "there is no such organization")},
		{"u1", "stack:fly", prod, decision(false, true, "there is no such permission")},
		{"", "stack:read", prod, rbac.Decision{Rule: "the request names no subject, permission or object"}},
		{"u1", "", prod, rbac.Decision{Rule: "the request names no subject, permission or object"}},
		{"u1", "stack:read", rbac.Object{}, rbac.Decision{Rule: "the request names no subject, permission or object"}},
		{"u1", "stack:read", rbac.Object{Organization: "Acme", Stack: "prod"}, rbac.Decision{Rule: "the request names no subject, permission or object"}},
	} {
		if got := s.Decide(c.user, c.permission, c.object); got != c.want {
			t.Errorf("%s, %s, %s\ngot  %+v\nwant %+v", c.user, c.permission, c.object, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Decide("u2", "stack:write", prod); s.Decide("u2", "stack:delete", dev) }); n != 0 {
		t.Errorf("Decide allocates %v times", n)
	}
}

func TestOrganizationNamesIgnoreCase(t *testing.T) {
	s := small()
	for _, name := range []string{"Acme", "acme", "ACME"} {
		if org, ok := s.Organization(name); !ok || org != (rbac.Org{ID: "o1", Login: "Acme"}) {
			t.Errorf("%q is %v, %v", name, org, ok)
		}
	}
	for _, name := range []string{"", "acm", "acme ", "acm\u212a", "organization:Acme", strings.Repeat("a", 1<<16)} {
		if org, ok := s.Organization(name); ok {
			t.Errorf("%q is %v", name, org)
		}
	}
	if got := s.Organizations("u2"); !reflect.DeepEqual(got, []rbac.Org{{ID: "o1", Login: "Acme"}, {ID: "o2", Login: "beta"}}) {
		t.Errorf("organizations of u2: %v", got)
	}
	if got := s.Organizations("stranger"); len(got) != 0 {
		t.Errorf("organizations of a stranger: %v", got)
	}
}

func object(organization, project, stack string) rbac.Object {
	return rbac.Object{Organization: organization, Project: project, Stack: stack}
}

func decision(allow, visible bool, rule string) rbac.Decision {
	return rbac.Decision{Allow: allow, Visible: visible, Rule: rule}
}
