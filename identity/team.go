package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// TeamKind says who keeps a team's members.
type TeamKind string

// The kinds that no group of a connector stands behind. The others are called as the
// kind of the connector is: "github", "gitlab", "saml", "oidc".
const (
	TeamHere TeamKind = "pulumi"
	TeamSCIM TeamKind = "scim"
)

// Team is a part of an organization's members.
type Team struct {
	ID             string
	OrganizationID string
	Name           string // unique in the organization without regard to case; grammar of a login, up to 100 characters
	DisplayName    string
	Description    string
	Kind           TeamKind    // "pulumi" while it is changed here
	Groups         []TeamGroup // that its members come from
	Members        int64       // how many
	Created        time.Time
}

// ReadOnly reports whether members come from elsewhere.
func (t Team) ReadOnly() bool { return t.Kind != TeamHere }

// TeamGroup is a group at a connector that a team's members come from.
type TeamGroup struct {
	Connector string
	Kind      ConnectorKind // of the connector; "" is found out for an organization's SAML connector
	Group     Group         // its ID and path
}

// NewTeam is what a team is made of.
type NewTeam struct {
	Name, DisplayName, Description string
	Kind                           TeamKind   // "pulumi" unless set, or the kind of Group
	Group                          *TeamGroup // where its members come from
}

// TeamChange changes what is not nil.
type TeamChange struct{ Name, DisplayName, Description *string }

// maxTeam is the length of the longest name of a team, in bytes.
const maxTeam = 100

// ValidTeam returns nil when name may be a team's, and otherwise an errs.Invalid
// whose text states the grammar.
func ValidTeam(name string) error {
	if !teamName(name) {
		return errs.Errorf(errs.Invalid, "a team's name has 1 to %d letters (a-z, A-Z), digits, \"_\" and \"-\", and begins with a letter or digit", maxTeam)
	}
	return nil
}

func teamName(name string) bool {
	if name == "" || len(name) > maxTeam || !alphanumeric(name[0]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func errNoTeam() error { return errs.Errorf(errs.NotFound, "there is no such team") }

// CreateTeam makes a team. An actor who is a member is its first administrator, where
// it is changed here. A name that is taken is errs.Conflict.
func (d *Directory) CreateTeam(ctx context.Context, actor Principal, organizationID string, n NewTeam) (Team, error) {
	if err := ValidTeam(n.Name); err != nil {
		return Team{}, err
	}
	id := uuid.NewString()
	var team Team
	err := d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) error {
		team = Team{
			ID: id, OrganizationID: o.ID, Name: n.Name, DisplayName: clean(n.DisplayName, maxName),
			Description: clean(n.Description, maxDescription), Kind: n.Kind, Created: now,
		}
		if team.DisplayName == "" {
			team.DisplayName = team.Name
		}
		if err := team.from(o, n.Group); err != nil {
			return err
		}
		if err := d.store.insertTeam(ctx, team); err != nil {
			return err
		}
		if team.Kind == TeamHere {
			joined, err := d.store.insertTeamMembers(ctx, team, []string{actor.UserID}, TeamAdmin, now)
			if err != nil {
				return err
			}
			team.Members = joined
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-created", Object: "team:" + team.Name,
			Description: "Created team " + team.Name + " in organization " + o.Login,
			After:       teamFacts(team),
		}))
	})
	if err != nil {
		return Team{}, err
	}
	return team, nil
}

// from settles who keeps the members of a new team of o.
func (t *Team) from(o Organization, g *TeamGroup) error {
	if g == nil {
		switch t.Kind {
		case "":
			t.Kind = TeamHere
		case TeamHere, TeamSCIM:
		default:
			return errs.Errorf(errs.Invalid, "a team of kind %q comes from a group, name it", t.Kind)
		}
		return nil
	}
	group, err := g.of(o)
	if err != nil {
		return err
	}
	if t.Kind != "" && t.Kind != TeamKind(group.Kind) {
		return errs.Errorf(errs.Invalid, "a group of a connector of kind %q makes no team of kind %q", group.Kind, t.Kind)
	}
	t.Kind, t.Groups = TeamKind(group.Kind), []TeamGroup{group}
	return nil
}

// of returns g as a team of o has it.
func (g TeamGroup) of(o Organization) (TeamGroup, error) {
	if strings.HasPrefix(g.Connector, SAMLConnector("")) {
		// Another organization's identity provider must not say who is in a team here.
		if g.Connector != SAMLConnector(o.ID) {
			return g, errs.Errorf(errs.Invalid, "that is the SAML connector of another organization")
		}
		if g.Kind == "" {
			g.Kind = KindSAML
		}
	}
	if !slices.Contains([]ConnectorKind{KindGitHub, KindGitLab, KindSAML, KindOIDC}, g.Kind) || (g.Kind == KindSAML) != strings.HasPrefix(g.Connector, SAMLConnector("")) {
		return g, errs.Errorf(errs.Invalid, "groups come from a GitHub, GitLab, SAML or OpenID Connect connector")
	}
	if g.Connector == "" || g.Group.ID == "" || len(g.Group.ID) > maxPath || clean(g.Group.ID, maxPath) != g.Group.ID {
		return g, errs.Errorf(errs.Invalid, "name a connector and a group there, of at most %d characters", maxPath)
	}
	g.Group = Group{ID: g.Group.ID, Path: clean(g.Group.Path, maxPath)}
	if g.Group.Path == "" {
		g.Group.Path = g.Group.ID
	}
	return g, nil
}

func teamFacts(t Team) map[string]string {
	var groups []string
	for _, g := range t.Groups {
		groups = append(groups, g.Connector+" "+g.Group.Path)
	}
	return facts("id", t.ID, "name", t.Name, "displayName", t.DisplayName, "description", t.Description,
		"kind", string(t.Kind), "groups", strings.Join(groups, ", "))
}

// Teams returns the teams of an organization by name.
func (d *Directory) Teams(ctx context.Context, organizationID string) ([]Team, error) {
	return d.store.teams(ctx, organizationID)
}

// TeamsOf returns the teams that a member is in, by name.
func (d *Directory) TeamsOf(ctx context.Context, organizationID, userID string) ([]Team, error) {
	return d.store.teamsOf(ctx, organizationID, userID)
}

// Team returns a team by its name, in whatever case; errs.NotFound without one.
func (d *Directory) Team(ctx context.Context, organizationID, name string) (Team, error) {
	if !teamName(name) {
		return Team{}, errNoTeam()
	}
	return d.store.teamByName(ctx, organizationID, fold(name))
}

// TeamByID returns a team by its ID; errs.NotFound without one.
func (d *Directory) TeamByID(ctx context.Context, organizationID, id string) (Team, error) {
	return d.store.teamByID(ctx, organizationID, id)
}

// UpdateTeam changes a team, read-only here or not.
func (d *Directory) UpdateTeam(ctx context.Context, actor Principal, organizationID, name string, c TeamChange) (Team, error) {
	if c.Name != nil {
		if err := ValidTeam(*c.Name); err != nil {
			return Team{}, err
		}
	}
	return d.changeTeam(ctx, organizationID, name, func(ctx context.Context, o Organization, t *Team, _ time.Time) error {
		before := teamFacts(*t)
		was := *t
		if c.Name != nil {
			t.Name = *c.Name
		}
		if c.Description != nil {
			t.Description = clean(*c.Description, maxDescription)
		}
		if c.DisplayName != nil {
			if t.DisplayName = clean(*c.DisplayName, maxName); t.DisplayName == "" {
				t.DisplayName = t.Name
			}
		}
		if t.Name == was.Name && t.DisplayName == was.DisplayName && t.Description == was.Description {
			return nil
		}
		if err := d.store.saveTeam(ctx, *t); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-updated", Object: "team:" + t.Name,
			Description: "Changed team " + t.Name + " in organization " + o.Login,
			Before:      before, After: teamFacts(*t),
		}))
	})
}

// changeTeam runs change with a team of a locked organization.
func (d *Directory) changeTeam(ctx context.Context, organizationID, name string, change func(ctx context.Context, o Organization, t *Team, now time.Time) error) (Team, error) {
	var team Team
	err := d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) (err error) {
		if team, err = d.Team(ctx, o.ID, name); err != nil {
			return err
		}
		return change(ctx, o, &team, now)
	})
	if err != nil {
		return Team{}, err
	}
	return team, nil
}

// DeleteTeam removes a team.
func (d *Directory) DeleteTeam(ctx context.Context, actor Principal, organizationID, name string) error {
	_, err := d.changeTeam(ctx, organizationID, name, func(ctx context.Context, o Organization, t *Team, _ time.Time) error {
		if err := d.store.deleteTeam(ctx, t.ID); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-deleted", Object: "team:" + t.Name,
			Description: "Deleted team " + t.Name + " of organization " + o.Login,
			Before:      teamFacts(*t),
		}))
	})
	return err
}

// MapGroup has the members of a group join a team when they sign in, and leave it when
// they have left the group. It makes the team read-only here; members who are in none
// of its groups leave when they sign in next. A team that SCIM keeps, or that has
// groups of another kind of connector, is errs.Conflict.
func (d *Directory) MapGroup(ctx context.Context, actor Principal, organizationID, team string, g TeamGroup) error {
	return d.changeGroups(ctx, actor, organizationID, team, g, func(ctx context.Context, t *Team, g TeamGroup) (string, error) {
		if slices.ContainsFunc(t.Groups, g.same) {
			return "", nil
		}
		if t.ReadOnly() && t.Kind != TeamKind(g.Kind) {
			return "", errs.Errorf(errs.Conflict, "the members of team %s come from elsewhere (%s) already", t.Name, t.Kind)
		}
		t.Kind, t.Groups = TeamKind(g.Kind), append(t.Groups, g)
		return "Mapped group " + g.Group.Path + " to team ", d.store.insertTeamGroup(ctx, *t, g)
	})
}

// UnmapGroup takes MapGroup back; without a group left the team is changed here again.
// A group that is not mapped to the team is errs.NotFound.
func (d *Directory) UnmapGroup(ctx context.Context, actor Principal, organizationID, team string, g TeamGroup) error {
	return d.changeGroups(ctx, actor, organizationID, team, g, func(ctx context.Context, t *Team, g TeamGroup) (string, error) {
		at := slices.IndexFunc(t.Groups, g.same)
		if at < 0 {
			return "", errs.Errorf(errs.NotFound, "that group is not mapped to team %s", t.Name)
		}
		g = t.Groups[at]
		if t.Groups = slices.Delete(slices.Clone(t.Groups), at, at+1); len(t.Groups) == 0 {
			t.Kind = TeamHere
		}
		return "Took the mapping of group " + g.Group.Path + " from team ", d.store.deleteTeamGroup(ctx, *t, g)
	})
}

func (g TeamGroup) same(other TeamGroup) bool {
	return g.Connector == other.Connector && g.Group.ID == other.Group.ID
}

// changeGroups records what change, which returns the beginning of a sentence or "",
// has done to the groups of a team.
func (d *Directory) changeGroups(ctx context.Context, actor Principal, organizationID, team string, g TeamGroup, change func(context.Context, *Team, TeamGroup) (string, error)) error {
	_, err := d.changeTeam(ctx, organizationID, team, func(ctx context.Context, o Organization, t *Team, _ time.Time) error {
		g := g
		if slices.ContainsFunc(t.Groups, g.same) {
			g.Kind = ConnectorKind(t.Kind)
		}
		g, err := g.of(o)
		if err != nil {
			return err
		}
		before := teamFacts(*t)
		kind := t.Kind
		done, err := change(ctx, t, g)
		if err != nil || done == "" {
			return err
		}
		if t.Kind != kind {
			if err := d.store.saveTeam(ctx, *t); err != nil {
				return err
			}
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-updated", Object: "team:" + t.Name, Description: done + t.Name + " of organization " + o.Login,
			Before: before, After: teamFacts(*t),
		}))
	})
	return err
}
