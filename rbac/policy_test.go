package rbac_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/policies"
	"github.com/ipuka/ipuka/rbac"
)

func TestDefaultPolicyIsWellFormed(t *testing.T) {
	if err := rbac.ParsePolicy(policies.Permissions(), policies.Roles()); err != nil {
		t.Fatal(err)
	}
	if n := len(rbac.AllPermissions()); n != 191 {
		t.Errorf("%d permissions, 190 of the Pulumi Service and ours make 191", n)
	}
}

func TestBadPolicyIsRefused(t *testing.T) {
	roles := policies.Roles()
	for name, c := range map[string]struct{ permissions, roles, want string }{
		"unknown permission":    {policies.Permissions(), roles + "p, role:stack-read, stack:fly\n", `"stack:fly"`},
		"case":                  {policies.Permissions(), roles + "p, role:stack-read, Stack:write\n", `"Stack:write"`},
		"pattern":               {policies.Permissions(), roles + "p, role:stack-read, *\n", `"*"`},
		"unknown role":          {policies.Permissions(), roles + "p, role:king, stack:read\n", `"role:king"`},
		"role without its type": {policies.Permissions(), roles + "p, stack-read, stack:write\n", "not of the form"},
		"another kind of line":  {policies.Permissions(), roles + "g, role:stack-read, stack:write\n", "not of the form"},
		"short line":            {policies.Permissions(), roles + "p, role:stack-read\n", "wrong number of fields"},
		"empty permission":      {policies.Permissions(), roles + "p, role:stack-read, \n", `""`},
		"twice":                 {policies.Permissions(), roles + "p, role:stack-read, stack:read\n", "already"},
		"a role is missing":     {policies.Permissions(), "p, role:organization-admin, organization:member\n", "missing"},
		"no policy":             {policies.Permissions(), "", "missing"},
		"listed twice":          {policies.Permissions() + "stack:read\n", roles, "listed twice"},
		"nobody sees stacks":    {policies.Permissions(), strings.ReplaceAll(roles, ", stack:read\n", ", project:encrypt\n"), "already"},
	} {
		if err := rbac.ParsePolicy(c.permissions, c.roles); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The goldens of the roles: one line a permission, with the roles that have it.
func TestRoles(t *testing.T) {
	roster := identity.Roster{
		Organization: identity.Organization{ID: "o", Login: "acme"},
		Roles:        map[string]identity.Role{"admin": identity.RoleAdmin, "member": identity.RoleMember},
	}
	for _, user := range []string{"reader", "writer", "owner"} {
		roster.Roles[user] = identity.RoleMember
	}
	grant := func(user string, level rbac.Level) rbac.GrantRow {
		return rbac.GrantRow{OrgID: "o", Project: "web", Stack: "prod", UserID: user, Login: user, Level: int64(level)}
	}
	snapshot := rbac.Compile(rbac.NewRules([]identity.Roster{roster}, map[string]rbac.Level{"o": rbac.None},
		[]rbac.GrantRow{grant("reader", rbac.Read), grant("writer", rbac.Write), grant("owner", rbac.Admin)}))

	member := []string{"organization:member", "stack:create", "org_member:read", "team:list", "policy_groups:read", "policy_pack:read", "policy_results:read"}
	read := strings.Fields(`stack:list stack:read stack:export stack:encrypt stack:decrypt stack_deployment:read
		stack_deployment_settings:read stack_access:read stack_schedule:read stack_annotations:read`)
	write := append(slices.Clone(read), strings.Fields(`stack:import stack:cancel_update stack:write stack_tags:update
		stack_webhook:read stack_webhook:create stack_webhook:update stack_webhook:delete
		stack_schedule:create stack_schedule:update stack_schedule:pause stack_schedule:resume stack_schedule:delete
		stack_deployment:create stack_deployment_settings:write stack_deployment_settings:encrypt stack_deployment_cache:read
		stack_annotations:update`)...)
	admin := append(slices.Clone(write), "stack:delete", "stack:rename", "stack:transfer", "stack_access:update")
	both := func(a, b []string) []string { return append(slices.Clone(a), b...) }

	stack, other, org := object("acme", "web", "prod"), object("acme", "web", "dev"), rbac.Object{Organization: "acme"}
	for _, c := range []struct {
		user   string
		object rbac.Object
		may    []string // nil is everything
	}{
		{"admin", org, nil}, {"admin", stack, nil}, {"admin", other, nil},
		{"member", org, member}, {"member", stack, member},
		{"reader", stack, both(member, read)}, {"reader", other, member}, {"reader", org, member},
		{"writer", stack, both(member, write)}, {"writer", other, member}, {"writer", org, member},
		{"owner", stack, both(member, admin)}, {"owner", other, member}, {"owner", org, member},
		{"stranger", stack, []string{}}, {"stranger", org, []string{}},
	} {
		for _, permission := range rbac.AllPermissions() {
			want := c.may == nil || slices.Contains(c.may, string(permission))
			if got := snapshot.Decide(c.user, permission, c.object); got.Allow != want {
				t.Errorf("%s, %s, %s: %+v", c.user, permission, c.object, got)
			}
		}
	}
}
