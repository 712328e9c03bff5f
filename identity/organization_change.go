package identity

import (
	"context"
	"strings"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// OrganizationKind says where an organization's members come from.
type OrganizationKind string

// The kinds.
const (
	KindPlain        OrganizationKind = "pulumi"
	KindGitHubBacked OrganizationKind = "github"
	KindGitLabBacked OrganizationKind = "gitlab"
	KindSAMLBacked   OrganizationKind = "saml"
)

// OrganizationChange changes what is not nil.
type OrganizationChange struct {
	Name       *string // the login when empty
	SSO        *bool   // members must have signed in through the SAML connector lately
	BreakGlass *string // login of the one administrator who need not; "" for nobody
}

// UpdateOrganization changes settings. Single sign-on without SAML behind the
// organization is errs.Unprocessable, and so is a break-glass administrator who is
// none, or who cannot sign in by any other way.
func (d *Directory) UpdateOrganization(ctx context.Context, actor Principal, organizationID string, c OrganizationChange) (Organization, error) {
	return d.changeOrganization(ctx, organizationID, func(ctx context.Context, o *Organization) error {
		before := *o
		if c.Name != nil {
			if o.Name = clean(*c.Name, maxName); o.Name == "" {
				o.Name = o.Login
			}
		}
		if c.SSO != nil {
			if *c.SSO && o.Kind != KindSAMLBacked {
				return errs.Errorf(errs.Unprocessable, "single sign-on needs SAML behind the organization, set that up first")
			}
			o.SSO = *c.SSO
		}
		if c.BreakGlass != nil {
			id, err := d.breakGlass(ctx, *o, *c.BreakGlass)
			if err != nil {
				return err
			}
			o.BreakGlass = id
		}
		if *o == before {
			return nil
		}
		if err := d.store.saveOrganization(ctx, *o); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "organization-settings-changed", Object: o.Login,
			Description: "Changed settings of organization " + o.Login,
			Before:      settings(before), After: settings(*o),
		}))
	})
}

func settings(o Organization) map[string]string {
	return facts("name", o.Name, "sso", yes(o.SSO), "breakGlass", o.BreakGlass)
}

// breakGlass returns the ID of an administrator who can be let in when the identity
// provider is down.
func (d *Directory) breakGlass(ctx context.Context, o Organization, login string) (string, error) {
	if login == "" {
		return "", nil
	}
	unfit := errs.Errorf(errs.Unprocessable, "the break-glass administrator must be an administrator of %s who can sign in without its identity provider", o.Login)
	user, role, err := d.member(ctx, o, login)
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return "", unfit
	}
	if err != nil {
		return "", err
	}
	a, err := d.store.account(ctx, user.ID)
	if err != nil {
		return "", err
	}
	if role != RoleAdmin || a.Disabled != 0 || a.ManagedBy != "" {
		return "", unfit
	}
	return user.ID, nil
}

// forgetBreakGlass ends what a break-glass administrator might do that is none any more.
func (d *Directory) forgetBreakGlass(ctx context.Context, actor Principal, o Organization, user User) error {
	if o.BreakGlass != user.ID {
		return nil
	}
	before := settings(o)
	o.BreakGlass = ""
	if err := d.store.saveOrganization(ctx, o); err != nil {
		return err
	}
	return d.record(ctx, o.ID, actor.Did(audit.Event{
		Name: "organization-settings-changed", Object: o.Login,
		Description: user.Login + " is no longer the break-glass administrator of organization " + o.Login,
		Before:      before, After: settings(o),
	}))
}

// maxFormer bounds the former names of an organization: names are never freed, so
// that renaming would otherwise be a way to take all of them.
const maxFormer = 20

// RenameOrganization changes its name. Former names stay its own and find it, and it
// can take them again. A name that somebody else has or had is errs.Conflict, more
// than 20 former names are errs.Exhausted.
func (d *Directory) RenameOrganization(ctx context.Context, actor Principal, organizationID, login string) (Organization, error) {
	if err := ValidOrganization(login); err != nil {
		return Organization{}, err
	}
	return d.changeOrganization(ctx, organizationID, func(ctx context.Context, o *Organization) error {
		before := *o
		if o.Login = login; *o == before {
			return nil
		}
		if o.Name == before.Login {
			o.Name = login // it had no other
		}
		if err := d.store.claimName(ctx, *o); err != nil {
			return err
		}
		if err := d.store.saveOrganization(ctx, *o); err != nil {
			return err
		}
		return d.recordTwice(ctx, *o, actor.Did(audit.Event{
			Name: "organization-renamed", Object: o.Login,
			Description: "Renamed organization " + before.Login + " to " + o.Login,
			Before:      facts("login", before.Login), After: facts("id", o.ID, "login", o.Login),
		}))
	})
}

// recordTwice records an event in the organization's log and in that of the site,
// which has everything about which organizations there are.
func (d *Directory) recordTwice(ctx context.Context, o Organization, e audit.Event) error {
	if err := d.record(ctx, audit.Site, e); err != nil {
		return err
	}
	return d.record(ctx, o.ID, e)
}

// changeOrganization runs change on a locked organization and returns what it left.
func (d *Directory) changeOrganization(ctx context.Context, organizationID string, change func(ctx context.Context, o *Organization) error) (Organization, error) {
	var changed Organization
	err := d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, _ time.Time) error {
		changed = o
		return change(ctx, &changed)
	})
	if err != nil {
		return Organization{}, err
	}
	return changed, nil
}

// Backing is where an organization's members come from. The zero Backing makes it a
// plain one again: members stay.
type Backing struct {
	Kind      OrganizationKind
	Connector string
	Group     Group // of a GitHub or GitLab connector
}

// BackOrganization changes where members come from. For a group the actor must
// administer it, as the connector said when the actor signed in last (errs.Forbidden);
// a site administrator need not. A group that is behind another organization is
// errs.Conflict. Whoever the connector before has made a member stays one, as if
// added here.
func (d *Directory) BackOrganization(ctx context.Context, actor Principal, organizationID string, b Backing) (Organization, error) {
	return d.changeOrganization(ctx, organizationID, func(ctx context.Context, o *Organization) error {
		before := *o
		b, err := d.backing(ctx, actor, *o, b)
		if err != nil {
			return err
		}
		o.Kind, o.Connector, o.Backing = b.Kind, b.Connector, b.Group
		if o.Kind != KindSAMLBacked {
			o.SSO, o.BreakGlass = false, ""
		}
		if *o == before {
			return nil
		}
		if err := d.store.saveOrganization(ctx, *o); err != nil {
			return err
		}
		if o.Connector != before.Connector {
			if err := d.store.forgetSource(ctx, o.ID); err != nil {
				return err
			}
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "organization-backend-changed", Object: o.Login,
			Description: "Changed where members of organization " + o.Login + " come from",
			Before:      backingFacts(before), After: backingFacts(*o),
		}))
	})
}

func backingFacts(o Organization) map[string]string {
	return facts("kind", string(o.Kind), "connector", o.Connector, "group", o.Backing.ID, "path", o.Backing.Path, "sso", yes(o.SSO))
}

// backing returns b as it is stored, when the actor may have it.
func (d *Directory) backing(ctx context.Context, actor Principal, o Organization, b Backing) (Backing, error) {
	switch b.Kind {
	case "", KindPlain:
		if b.Connector != "" || b.Group != (Group{}) {
			return Backing{}, errs.Errorf(errs.Invalid, "a plain organization has no connector and no group behind it")
		}
		return Backing{Kind: KindPlain}, nil
	case KindSAMLBacked:
		own := SAMLConnector(o.ID)
		if b.Connector != "" && b.Connector != own || b.Group != (Group{}) {
			return Backing{}, errs.Errorf(errs.Invalid, "an organization has its own SAML connector behind it and no group")
		}
		return Backing{Kind: KindSAMLBacked, Connector: own}, nil
	case KindGitHubBacked, KindGitLabBacked:
	default:
		return Backing{}, errs.Errorf(errs.Invalid, "members come from %q, %q or %q, or are added here: %q", KindGitHubBacked, KindGitLabBacked, KindSAMLBacked, KindPlain)
	}
	if b.Connector == "" || b.Connector == EmailConnector || strings.HasPrefix(b.Connector, SAMLConnector("")) || b.Group.ID == "" || b.Group.Parent != "" {
		return Backing{}, errs.Errorf(errs.Invalid, "name a GitHub or GitLab connector and a group there that is in no other group")
	}
	group := Group{ID: b.Group.ID, Path: clean(b.Group.Path, maxPath)}
	if actor.UserID != "" && !actor.SiteAdmin {
		found, err := d.administers(ctx, actor, b)
		if err != nil {
			return Backing{}, err
		}
		group.Path = clean(found.Path, maxPath)
	}
	return Backing{Kind: b.Kind, Connector: b.Connector, Group: group}, nil
}

// maxPath bounds the path of a group, in characters.
const maxPath = 500

// administers returns the group of b as the connector described it to the actor.
func (d *Directory) administers(ctx context.Context, actor Principal, b Backing) (Group, error) {
	groups, err := d.store.groupsOf(ctx, actor.UserID, b.Connector)
	if err != nil {
		return Group{}, err
	}
	for _, g := range groups {
		if g.ID == b.Group.ID && g.Parent == "" && g.Admin {
			return g, nil
		}
	}
	return Group{}, errs.Errorf(errs.Forbidden, "you must administer the group there: sign in with that connector again if you became its administrator lately")
}
