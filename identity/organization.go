package identity

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// Organization owns stacks and has members.
type Organization struct {
	ID      string // immutable; it names the organization's audit log
	Login   string // the canonical spelling of its name; compared without regard to case
	Name    string // to be shown; the login when there is no other
	Created time.Time
}

// Role is what a member is in an organization.
type Role string

// The roles.
const (
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
)

func (r Role) check() error {
	if r != RoleAdmin && r != RoleMember {
		return errs.Errorf(errs.Invalid, "a member's role is %q or %q", RoleAdmin, RoleMember)
	}
	return nil
}

// Member is a user in an organization.
type Member struct {
	User    User
	Role    Role
	Created time.Time // when the user became a member
}

// Membership is an organization as one of its members has it.
type Membership struct {
	Organization Organization
	Role         Role
	Created      time.Time
}

// Roster is an organization with the role of each member, by user ID. Disabled users
// are not in it.
type Roster struct {
	Organization Organization
	Roles        map[string]Role
}

// CreateOrganization adds an organization, whose first administrator is actor. A
// name that an organization or a user has, in whatever case, is errs.Conflict: that
// goes for the actor's own login too. An empty display name is the login.
func (d *Directory) CreateOrganization(ctx context.Context, actor Principal, login, name string) (Organization, error) {
	o := Organization{ID: uuid.NewString(), Login: login, Name: clean(name, maxName)}
	if err := ValidOrganization(login); err != nil {
		return Organization{}, err
	}
	if o.Name == "" {
		o.Name = login
	}
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		o.Created = now
		if err := d.store.insertOrganization(ctx, o); err != nil {
			return err
		}
		created := actor.Did(audit.Event{
			Name: "organization-created", Object: login,
			Description: "Created organization " + login,
			After:       facts("id", o.ID, "login", login, "name", o.Name),
		})
		if err := d.record(ctx, audit.Site, created); err != nil {
			return err
		}
		if err := d.record(ctx, o.ID, created); err != nil {
			return err
		}
		d.changed(ctx, o.ID)
		if actor.UserID == "" {
			return nil
		}
		return d.addMember(ctx, actor, o, actor.UserID, actor.Login, RoleAdmin, now)
	})
	if err != nil {
		return Organization{}, err
	}
	return o, nil
}

// Organization returns the organization with a name, in whatever case; errs.NotFound
// without one.
func (d *Directory) Organization(ctx context.Context, login string) (Organization, error) {
	if !grammatical(login) {
		return Organization{}, errNoOrganization()
	}
	return d.store.organizationByName(ctx, fold(login))
}

func errNoOrganization() error { return errs.Errorf(errs.NotFound, "there is no such organization") }

// Organizations returns the organizations that a user is a member of, by name.
func (d *Directory) Organizations(ctx context.Context, userID string) ([]Membership, error) {
	return d.store.memberships(ctx, userID)
}

// Members returns up to limit members of an organization (0 is 100, more than 1000
// is 1000), disabled ones included, in the order of their user IDs, and the cursor
// of the next page, "" after the last one. The first page has the cursor "".
func (d *Directory) Members(ctx context.Context, organizationID, cursor string, limit int) ([]Member, string, error) {
	after, err := decodeCursor(cursor, 1)
	if err != nil {
		return nil, "", err
	}
	limit = pageSize(limit)
	members, err := d.store.members(ctx, organizationID, after[0], limit+1)
	if err != nil || len(members) <= limit {
		return members, "", err
	}
	members = members[:limit]
	return members, encodeCursor(members[limit-1].User.ID), nil
}

// AllMembers returns the roster of every organization, read at one moment.
func (d *Directory) AllMembers(ctx context.Context) ([]Roster, error) {
	return d.store.rosters(ctx, "")
}

// MembersOf returns the roster of one organization; errs.NotFound without it.
func (d *Directory) MembersOf(ctx context.Context, organizationID string) (Roster, error) {
	if organizationID == "" {
		return Roster{}, errNoOrganization()
	}
	rosters, err := d.store.rosters(ctx, organizationID)
	if err != nil {
		return Roster{}, err
	}
	if len(rosters) == 0 {
		return Roster{}, errNoOrganization()
	}
	return rosters[0], nil
}
