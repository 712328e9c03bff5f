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

	// Key is the name that it was made with. The state service knows it by that,
	// whatever it is renamed to.
	Key       string
	Kind      OrganizationKind
	Connector string // that its members come from; "" for a plain one
	Backing   Group  // at that connector, when it has groups
	SSO       bool   // members must have signed in through the SAML connector lately, see [Directory.SSO]
	// BreakGlass is the ID of the one administrator who need not; "" for nobody.
	BreakGlass string
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
	// Source is the connector that keeps the membership, and ends it when the person
	// leaves the group there; "" for somebody who was added or invited here.
	Source string
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
	Former       []string // names that the organization had, in lower case
	Roles        map[string]Role
}

// CreateOrganization adds an organization, whose first administrator is actor. A
// name that an organization or a user has, in whatever case, is errs.Conflict: that
// goes for the actor's own login too. An empty display name is the login. An actor
// whose account an organization manages is errs.Conflict.
func (d *Directory) CreateOrganization(ctx context.Context, actor Principal, login, name string) (Organization, error) {
	o := Organization{ID: uuid.NewString(), Login: login, Name: clean(name, maxName)}
	if err := ValidOrganization(login); err != nil {
		return Organization{}, err
	}
	if o.Name == "" {
		o.Name = login
	}
	o.Key, o.Kind = login, KindPlain
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

// Organization returns the organization that has a name or had it formerly, in
// whatever case; errs.NotFound without one.
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

// OrganizationByID returns an organization that is not deleted; errs.NotFound otherwise.
func (d *Directory) OrganizationByID(ctx context.Context, id string) (Organization, error) {
	return d.store.organization(ctx, id)
}

// Members returns up to limit members of an organization (0 is 100, more than 1000
// is 1000), disabled ones included, in the order of their logins, and the cursor of
// the next page, "" after the last one. The first page has the cursor "".
func (d *Directory) Members(ctx context.Context, organizationID, cursor string, limit int) ([]Member, string, error) {
	return d.FindMembers(ctx, organizationID, MemberQuery{Cursor: cursor, Limit: limit})
}

// MemberQuery selects members of an organization.
type MemberQuery struct {
	Text   string // in login, name or e-mail, in whatever case
	Cursor string // of the page before; "" for the first page
	Limit  int    // 0 is 100, more than 1000 is 1000
}

// FindMembers is [Directory.Members] with a search.
func (d *Directory) FindMembers(ctx context.Context, organizationID string, q MemberQuery) ([]Member, string, error) {
	after, err := decodeCursor(q.Cursor, 1)
	if err != nil {
		return nil, "", err
	}
	limit := pageSize(q.Limit)
	members, err := d.store.members(ctx, organizationID, clean(q.Text, maxSearch), after[0], limit+1)
	if err != nil || len(members) <= limit {
		return members, "", err
	}
	members = members[:limit]
	return members, encodeCursor(fold(members[limit-1].User.Login)), nil
}

// maxSearch bounds the text that a list is searched for, in characters.
const maxSearch = 100

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
