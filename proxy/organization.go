package proxy

import (
	"errors"
	"net/http"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// createOrganization makes an organization with the caller as its administrator. Who
// may do so is the installation's setting; accounts that an organization manages may
// never.
func (g *Gate) createOrganization(w http.ResponseWriter, c *call) error {
	switch {
	case c.principal.ManagedBy != "":
		return g.refuse(c, refusal(errs.Forbidden, "managed_account", "your account belongs to an organization and makes no others"))
	case !g.OpenOrganizations && !c.principal.SiteAdmin:
		return g.refuse(c, refusal(errs.Forbidden, "not_site_admin", "organizations are made by the site administrators here, ask one of them"))
	}
	var body struct {
		Login string `json:"githubLogin"`
		Name  string `json:"name"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	org, err := g.Directory.CreateOrganization(c.detached(), c.principal, body.Login, body.Name)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusCreated, organizationSummary{Name: org.Name, Login: org.Login, Role: string(identity.RoleAdmin)})
	return nil
}

// organizationMetadata is what pages and clients switch on. The members that stand for
// parts of the Pulumi Service that are not here say so.
type organizationMetadata struct {
	ID              string    `json:"id"`
	Login           string    `json:"githubLogin"` // ours
	Name            string    `json:"name"`        // ours
	Kind            string    `json:"kind"`
	BackingOrgLogin string    `json:"backingOrgLogin,omitempty"`
	Created         time.Time `json:"created"`
	UserRole        string    `json:"userRole"`
	MemberCount     int64     `json:"memberCount"`
	Product         string    `json:"product"`
	SSO             bool      `json:"ssoRequired"` // ours

	DefaultStackPermission       rbac.Level `json:"defaultStackPermission"`
	DefaultAccountPermission     int        `json:"defaultAccountPermission"`
	DefaultEnvironmentPermission string     `json:"defaultEnvironmentPermission"`
	MembersCanCreateStacks       bool       `json:"membersCanCreateStacks"`
	MembersCanDeleteStacks       bool       `json:"membersCanDeleteStacks"`
	MembersCanTransferStacks     bool       `json:"membersCanTransferStacks"`
	MembersCanCreateTeams        bool       `json:"membersCanCreateTeams"`
	MembersCanCreateAccounts     bool       `json:"membersCanCreateAccounts"`
	AccountCount                 int        `json:"accountCount"`
	EnvironmentCount             int        `json:"environmentCount"`
	AuditLogsEnabled             bool       `json:"auditLogsEnabled"`
	WebhooksEnabled              bool       `json:"webhooksEnabled"`
	AIEnablement                 string     `json:"aiEnablement"`
	InsightsTrialUsingPolicy     bool       `json:"insightsTrialUsingPolicy"`

	Features map[string]bool `json:"features"`
}

func (g *Gate) metadata(w http.ResponseWriter, c *call) error {
	roster, err := g.Directory.MembersOf(c.Context(), c.log)
	if err != nil {
		return err
	}
	level, err := g.Engine.DefaultPermission(c.Context(), c.object.Organization)
	if err != nil {
		return err
	}
	org := roster.Organization
	role := string(roster.Roles[c.principal.UserID])
	if role == "" {
		role = "none"
	}
	httpapi.WriteJSON(w, http.StatusOK, organizationMetadata{
		ID: org.ID, Login: org.Login, Name: org.Name, Kind: string(org.Kind), BackingOrgLogin: org.Backing.Path, Created: org.Created,
		UserRole: role, MemberCount: int64(len(roster.Roles)), Product: "enterprise", SSO: org.SSO,
		DefaultStackPermission: level, DefaultEnvironmentPermission: "none",
		MembersCanCreateStacks: true, AuditLogsEnabled: true, AIEnablement: "disabled",
		Features: map[string]bool{
			"auditLogsEnabled": true, "samlSsoEnabled": g.SAML != nil, "scimEnabled": g.SCIM != nil, "teamsEnabled": true,
			"aleEnabled": false, "customRolesEnabled": false, "machineTokensEnabled": false, "restoreStacksEnabled": false, "webhooksEnabled": false,
		},
	})
	return nil
}

// updateOrganization changes the settings that the body names and leaves the others.
func (g *Gate) updateOrganization(w http.ResponseWriter, c *call) error {
	var body struct {
		DefaultStackPermission *rbac.Level `json:"setDefaultStackPermission"`
		Name                   *string     `json:"setName"`        // ours
		SSO                    *bool       `json:"setSsoRequired"` // ours
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	if body.DefaultStackPermission != nil {
		if err := g.Engine.SetDefaultPermission(c.detached(), c.principal, c.object.Organization, *body.DefaultStackPermission); err != nil {
			return err
		}
	}
	if body.Name != nil || body.SSO != nil {
		change := identity.OrganizationChange{Name: body.Name, SSO: body.SSO}
		if _, err := g.Directory.UpdateOrganization(c.detached(), c.principal, c.log, change); err != nil {
			return err
		}
	}
	return g.metadata(w, c)
}

// renameOrganization is ours. Former names keep working.
func (g *Gate) renameOrganization(w http.ResponseWriter, c *call) error {
	var body struct {
		NewName string `json:"newName"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	org, err := g.Directory.RenameOrganization(c.detached(), c.principal, c.log, body.NewName)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, organizationSummary{Name: org.Name, Login: org.Login})
	return nil
}

// deleteOrganization is ours. Everything is kept until a site administrator purges it.
func (g *Gate) deleteOrganization(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.DeleteOrganization(c.detached(), c.principal, c.log))
}

// backOrganization is ours: it says where members come from.
func (g *Gate) backOrganization(w http.ResponseWriter, c *call) error {
	var body struct {
		Connector string `json:"connector"` // "" for a plain organization
		Group     string `json:"group"`     // path of the group, as GET /api/user/vcs/organizations lists it
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	var backing identity.Backing
	if body.Connector != "" {
		group, kind, err := g.ownGroup(c, body.Connector, body.Group)
		if err != nil {
			return err
		}
		backing = identity.Backing{Kind: kind, Connector: body.Connector, Group: group}
	}
	if _, err := g.Directory.BackOrganization(c.detached(), c.principal, c.log, backing); err != nil {
		return err
	}
	return g.metadata(w, c)
}

// ownGroup returns a group of the caller's at a connector, and the kind of
// organization that it can back.
func (g *Gate) ownGroup(c *call, connector, path string) (identity.Group, identity.OrganizationKind, error) {
	found, err := g.Connectors.Find(c.Context(), connector)
	if err != nil {
		return identity.Group{}, "", err
	}
	var kind identity.OrganizationKind
	switch found.Info().Kind {
	case identity.KindGitHub:
		kind = identity.KindGitHubBacked
	case identity.KindGitLab:
		kind = identity.KindGitLabBacked
	default:
		return identity.Group{}, "", errs.Errorf(errs.Invalid, "only a GitHub organization or a GitLab group can back an organization")
	}
	linked, err := g.Directory.LinkedIdentities(c.Context(), c.principal.UserID)
	if err != nil {
		return identity.Group{}, "", err
	}
	for _, i := range linked {
		for _, group := range i.Groups {
			if i.Connector == connector && group.Path == path {
				return group, kind, nil
			}
		}
	}
	return identity.Group{}, "", errs.Errorf(errs.NotFound, "you are in no group %s there: sign in through the connector again if you joined it lately", httpapi.Clean(path, 100))
}

// memberTeams lists the teams of a member.
func (g *Gate) memberTeams(w http.ResponseWriter, c *call) error {
	user, err := g.Directory.UserByLogin(c.Context(), c.names["user"])
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	teams := []identity.Team{}
	if err == nil {
		if teams, err = g.Directory.TeamsOf(c.Context(), c.log, user.ID); err != nil {
			return err
		}
	}
	list := make([]teamInfo, 0, len(teams))
	for _, t := range teams {
		list = append(list, teamInfoOf(t))
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]teamInfo{"teams": list})
	return nil
}
