package rbac

import (
	"context"
	"fmt"
	"net/url"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/policies"
)

// Reference decides by casbin, from the model and policy of package policies and the
// same rules that a snapshot is made from. It is the meaning of the rules, a thousand
// times slower than the index; tests and checks compare the two. It is not safe for
// concurrent use.
type Reference struct {
	enforcer *casbin.Enforcer
	policy   *policy
}

// Reference reads all rules and returns the reference for them.
func (e *Engine) Reference(ctx context.Context) (*Reference, error) {
	var ref *Reference
	err := e.db.ReadTx(ctx, func(ctx context.Context) error {
		version, err := e.store.version(ctx)
		if err != nil {
			return err
		}
		r, err := e.rules(ctx, version)
		if err != nil {
			return err
		}
		ref, err = newReference(e.policy, r)
		return err
	})
	return ref, err
}

func newReference(p *policy, r rules) (*Reference, error) {
	m, err := model.NewModelFromString(policies.Model())
	if err != nil {
		return nil, fmt.Errorf("reading the access model: %w", err)
	}
	enforcer, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("reading the access model: %w", err)
	}
	enforcer.EnableLog(false) // it would print requests
	var lines [][]string
	for _, permission := range p.order {
		for i, name := range roleNames {
			if p.holders[permission]&(1<<i) != 0 {
				lines = append(lines, []string{"role:" + name, string(permission)})
			}
		}
	}
	if _, err := enforcer.AddPolicies(lines); err != nil {
		return nil, err
	}
	names := make(map[string]string, len(r.rosters))
	var users, organizations [][]string
	for _, roster := range r.rosters {
		names[roster.Organization.ID] = roster.Organization.Login
		domain := organizationName(roster.Organization.Login)
		for user, role := range roster.Roles {
			if user != "" && (role == identity.RoleAdmin || role == identity.RoleMember) {
				users = append(users, []string{"user:" + user, "role:organization-" + string(role), domain})
			}
		}
		level, chosen := r.defaults[roster.Organization.ID]
		if !chosen {
			level = Read
		}
		if level != None {
			organizations = append(organizations, []string{domain, "role:stack-" + level.String()})
		}
	}
	var grants [][]string
	for _, row := range r.grants {
		if name, ok := names[row.OrgID]; ok {
			grants = append(grants, []string{"user:" + row.UserID, "role:stack-" + Level(row.Level).String(), stackName(Object{name, row.Project, row.Stack})})
		}
	}
	for kind, lines := range map[string][][]string{"g": users, "g2": grants, "g3": organizations} {
		if _, err := enforcer.AddNamedGroupingPolicies(kind, lines); err != nil {
			return nil, err
		}
	}
	return &Reference{enforcer: enforcer, policy: p}, nil
}

// Decide returns what [Snapshot.Decide] should: Allow and Visible, without a rule.
func (r *Reference) Decide(userID string, permission Permission, object Object) (Decision, error) {
	// Casbin takes empty names for names like others, and allows everything when there
	// is no policy.
	if userID == "" || permission == "" || object.Organization == "" || object.Stack != "" && object.Project == "" {
		return Decision{}, nil
	}
	domain := organizationName(object.Organization)
	target, see := domain, Membership
	if object.Stack != "" {
		target, see = stackName(object), StackRead
	}
	allow, err := r.enforcer.Enforce("user:"+userID, domain, target, string(permission))
	if err != nil {
		return Decision{}, err
	}
	visible := allow
	if permission != see {
		visible, err = r.enforcer.Enforce("user:"+userID, domain, target, string(see))
	}
	return Decision{Allow: allow, Visible: visible}, err
}

// organizationName and stackName escape names, so that no two objects have the same.
func organizationName(login string) string { return "organization:" + url.PathEscape(login) }

func stackName(o Object) string {
	return "stack:" + url.PathEscape(o.Organization) + "/" + url.PathEscape(o.Project) + "/" + url.PathEscape(o.Stack)
}
