// Package rbac decides who may do what.
//
// A member of an organization has a role in it: an admin may do everything, a member
// little. On stacks a member has the organization's default permission, and what has
// been granted on that stack; the creator of a stack is granted admin. The roles and
// their permissions are those of package policies, a casbin policy.
//
// [Engine] keeps the rules in the database and an index of them in memory, an
// immutable [Snapshot]. A request takes one snapshot and uses it throughout. The
// index is no second policy: a property test holds it against casbin ([Reference]).
//
// Everything that is not allowed is refused: an empty or unknown subject, object or
// permission, a disabled user, somebody who is no member, whatever was granted to
// them. Names are compared exactly; no name is a pattern.
//
// A change has taken effect when the call that made it returns, in this process; in
// others that share the database within about a second, see [Engine.Run]. The
// database is the truth: memory changes only by reading from it what a newer version
// touched, one version after the other, so that no reload can bring back what was
// revoked.
package rbac

import (
	"embed"
	"fmt"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package.
var Migrations = database.Migrations{Name: "rbac", FS: migrationFS}

// Permission is a permission by its name in the Pulumi Service: "stack:read".
type Permission string

// Permissions that decide what a caller may know to exist.
const (
	// Membership is ours: to be in the organization at all.
	Membership Permission = "organization:member"
	// StackRead is to see that a stack exists.
	StackRead Permission = "stack:read"
)

// Object is what somebody wants to do something to. Without a Stack it is the
// organization itself, or a project of it. Organization is the canonical spelling
// that [Snapshot.Organization] returns.
type Object struct{ Organization, Project, Stack string }

// String returns "acme/web/prod" or "acme".
func (o Object) String() string {
	switch {
	case o.Stack != "":
		return o.Organization + "/" + o.Project + "/" + o.Stack
	case o.Project != "":
		return o.Organization + "/" + o.Project
	}
	return o.Organization
}

// Decision is the answer to a request.
type Decision struct {
	Allow bool
	// Visible says whether the subject may know that the object exists: a stack by
	// stack:read, an organization by being a member.
	Visible bool
	// Rule says why, in words for an administrator: "organization role admin",
	// "stack permission write (granted to alice)".
	Rule string
}

// Level is a stack permission, numbered as in the API.
type Level int

// The levels. Each includes the one before.
const (
	None  Level = 0
	Read  Level = 101
	Write Level = 102
	Admin Level = 103
)

// String returns "none", "read", "write" or "admin".
func (l Level) String() string {
	switch l {
	case None:
		return "none"
	case Read:
		return "read"
	case Write:
		return "write"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("level %d", int(l))
}

func (l Level) check() error {
	switch l {
	case None, Read, Write, Admin:
		return nil
	}
	return errs.Errorf(errs.Invalid, "a stack permission is 0 (none), 101 (read), 102 (write) or 103 (admin), not %d", int(l))
}

// Org is an organization. Key is the name that it was made with, by which the state
// service knows it; SSO says that its members must have signed in through it.
type Org struct {
	ID, Login, Key string
	SSO            bool
}
