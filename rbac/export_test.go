package rbac

import (
	"context"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/policies"
)

// What tests of the pure half need: rules without a database.

type (
	Rules    = rules
	GrantRow = grantRow
	Change   = change
)

func NewRules(rosters []identity.Roster, defaults map[string]Level, grants []GrantRow) Rules {
	return rules{version: 1, rosters: rosters, defaults: defaults, grants: grants}
}

func ParsePolicy(permissions, roles string) error {
	_, err := parsePolicy(permissions, roles)
	return err
}

func defaultPolicy() *policy {
	p, err := parsePolicy(policies.Permissions(), policies.Roles())
	if err != nil {
		panic(err)
	}
	return p
}

var shipped = defaultPolicy()

func AllPermissions() []Permission { return shipped.order }

func Compile(r Rules) *Snapshot { return compile(shipped, r) }

func NewReference(r Rules) (*Reference, error) { return newReference(shipped, r) }

// StackChange, UserChange and OrganizationChange are what an engine reads again
// after one of these was touched.
func StackChange(org, project, stack string, rows []GrantRow) Change {
	return change{touched: touched{OrgID: org, Project: project, Stack: stack}, grants: rows}
}

func UserChange(org, user string, rows []GrantRow) Change {
	return change{touched: touched{OrgID: org, UserID: user}, grants: rows}
}

func OrganizationChange(org string, roster *identity.Roster, defaults map[string]Level, rows []GrantRow) Change {
	c := change{touched: touched{OrgID: org}, defaults: defaults, grants: rows}
	if roster != nil {
		c.found, c.roster = true, *roster
	}
	return c
}

func (s *Snapshot) With(version int64, changes ...Change) *Snapshot { return s.with(version, changes) }

func (e *Engine) Reload(ctx context.Context) error { return e.reload(ctx) }

func (e *Engine) Refresh() error { return e.refresh() }
