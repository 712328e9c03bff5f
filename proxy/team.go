package proxy

import (
	"net/http"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// teamInfo is a team. Its stacks and roles come with access control.
type teamInfo struct {
	Name        string           `json:"name"`
	DisplayName string           `json:"displayName"`
	Description string           `json:"description"`
	Kind        string           `json:"kind"`
	Source      string           `json:"source"`   // ours: what kind tells clients is one of three words
	ReadOnly    bool             `json:"readOnly"` // ours: its members come from elsewhere
	Groups      []teamGroup      `json:"groups"`   // ours
	MemberCount int64            `json:"memberCount"`
	Members     []teamMemberInfo `json:"members,omitempty"`
	UserRole    string           `json:"userRole,omitempty"`
	Stacks      []string         `json:"stacks"`
	RoleIDs     []string         `json:"roleIds"`
}

type teamGroup struct {
	Connector string `json:"connector"`
	ID        string `json:"id"`
	Path      string `json:"path"`
}

type teamMemberInfo struct {
	userInfo
	Role string `json:"role"`
}

func teamInfoOf(t identity.Team) teamInfo {
	kind := "scim"
	if t.Kind == "pulumi" || t.Kind == "github" {
		kind = string(t.Kind)
	}
	info := teamInfo{
		Name: t.Name, DisplayName: t.DisplayName, Description: t.Description, Kind: kind, Source: string(t.Kind),
		ReadOnly: t.ReadOnly(), MemberCount: t.Members,
	}
	for _, g := range t.Groups {
		info.Groups = append(info.Groups, teamGroup{g.Connector, g.Group.ID, g.Group.Path})
	}
	return info
}

// teams lists the organization's teams, without their members.
func (g *Gate) teams(w http.ResponseWriter, c *call) error {
	teams, err := g.Directory.Teams(c.Context(), c.log)
	if err != nil {
		return err
	}
	list := make([]teamInfo, 0, len(teams))
	for _, t := range teams {
		list = append(list, teamInfoOf(t))
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]teamInfo{"teams": list})
	return nil
}

// team answers with a team and its members.
func (g *Gate) team(w http.ResponseWriter, c *call) error {
	team, err := g.Directory.Team(c.Context(), c.log, c.names["team"])
	if err != nil {
		return err
	}
	return g.writeTeam(w, c, http.StatusOK, team)
}

func (g *Gate) writeTeam(w http.ResponseWriter, c *call, status int, team identity.Team) error {
	members, err := g.Directory.TeamMembers(c.Context(), team.ID)
	if err != nil {
		return err
	}
	info := teamInfoOf(team)
	info.UserRole = string(identity.TeamNobody)
	info.Members = make([]teamMemberInfo, 0, len(members))
	for _, m := range members {
		if m.User.ID == c.principal.UserID {
			info.UserRole = string(m.Role)
		}
		info.Members = append(info.Members, teamMemberInfo{userInfo{m.User.Name, m.User.Login, m.User.AvatarURL, m.User.Email}, string(m.Role)})
	}
	httpapi.WriteJSON(w, status, info)
	return nil
}

// createTeam makes a team with the caller as its first administrator. Clients also
// send members that are of no use here.
func (g *Gate) createTeam(w http.ResponseWriter, c *call) error {
	var body struct {
		Name         string `json:"name"`
		DisplayName  string `json:"displayName"`
		Description  string `json:"description"`
		Organization string `json:"organization"`
		TeamType     string `json:"teamType"`
		GitHubTeamID int64  `json:"githubTeamID"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	team, err := g.Directory.CreateTeam(c.detached(), c.principal, c.log, identity.NewTeam{Name: body.Name, DisplayName: body.DisplayName, Description: body.Description})
	if err != nil {
		return err
	}
	return g.writeTeam(w, c, http.StatusCreated, team)
}

// administersTeam reports whether the caller is an administrator of the team.
func (g *Gate) administersTeam(c *call) (bool, error) {
	team, err := g.Directory.Team(c.Context(), c.log, c.names["team"])
	if err != nil {
		return false, err
	}
	role, err := g.Directory.TeamRoleOf(c.Context(), team.ID, c.principal.UserID)
	return role == identity.TeamAdmin, err
}

// updateTeam does the one thing that the body asks for. It takes the permission
// team:update, or being an administrator of the team.
func (g *Gate) updateTeam(w http.ResponseWriter, c *call) error {
	if missing := c.need("team:update", c.object); missing != nil {
		own, err := g.administersTeam(c)
		if err != nil {
			return err
		}
		if !own {
			return g.refuse(c, missing)
		}
	}
	var body struct {
		NewName        *string    `json:"newName"` // ours
		NewDisplayName *string    `json:"newDisplayName"`
		NewDescription *string    `json:"newDescription"`
		Member         string     `json:"member"`
		MemberAction   string     `json:"memberAction"`
		AddGroup       *teamGroup `json:"addGroup"`    // ours
		RemoveGroup    *teamGroup `json:"removeGroup"` // ours
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	ctx, org, team := c.detached(), c.log, c.names["team"]
	var err error
	switch {
	case body.Member != "" || body.MemberAction != "":
		err = g.changeTeamMember(c, body.Member, body.MemberAction)
	case body.AddGroup != nil || body.RemoveGroup != nil:
		// Whoever says which group is in a team decides who joins it: team administrators
		// do not.
		if missing := c.need("team:update", c.object); missing != nil {
			return g.refuse(c, missing)
		}
		err = g.changeTeamGroup(c, body.AddGroup, body.RemoveGroup)
	case body.NewName != nil || body.NewDisplayName != nil || body.NewDescription != nil:
		_, err = g.Directory.UpdateTeam(ctx, c.principal, org, team, identity.TeamChange{Name: body.NewName, DisplayName: body.NewDisplayName, Description: body.NewDescription})
	default:
		err = errs.Errorf(errs.Invalid, "the body asks for nothing: send newDisplayName, newDescription, or member with memberAction")
	}
	return noContent(w, err)
}

func (g *Gate) changeTeamMember(c *call, login, action string) error {
	ctx, org, team := c.detached(), c.log, c.names["team"]
	switch action {
	case "add", "demote":
		return g.Directory.SetTeamMember(ctx, c.principal, org, team, login, identity.TeamPlain)
	case "promote":
		return g.Directory.SetTeamMember(ctx, c.principal, org, team, login, identity.TeamAdmin)
	case "remove":
		return g.Directory.RemoveTeamMember(ctx, c.principal, org, team, login)
	}
	return errs.Errorf(errs.Invalid, "memberAction is add, remove, promote or demote")
}

func (g *Gate) changeTeamGroup(c *call, add, remove *teamGroup) error {
	wanted := add
	if wanted == nil {
		wanted = remove
	}
	connector, err := g.Connectors.Find(c.Context(), wanted.Connector)
	if err != nil {
		return err
	}
	info := connector.Info()
	if info.OrganizationID != "" && info.OrganizationID != c.log {
		return errs.Errorf(errs.NotFound, "there is no such connector")
	}
	group := identity.TeamGroup{Connector: info.Name, Kind: info.Kind, Group: identity.Group{ID: wanted.ID, Path: wanted.Path}}
	if group.Group.Path == "" {
		group.Group.Path = wanted.ID
	}
	if add != nil {
		return g.Directory.MapGroup(c.detached(), c.principal, c.log, c.names["team"], group)
	}
	return g.Directory.UnmapGroup(c.detached(), c.principal, c.log, c.names["team"], group)
}

func (g *Gate) deleteTeam(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.DeleteTeam(c.detached(), c.principal, c.log, c.names["team"]))
}
