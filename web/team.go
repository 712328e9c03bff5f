package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
)

type teamsPage struct {
	Organization wireMetadata
	Teams        []wireTeam
	Done         string

	Name, DisplayName, Description string // to make
	Problem                        string
}

// teams lists an organization's teams.
func (c *Console) teams(w http.ResponseWriter, v *visit) error {
	return c.renderTeams(w, v, http.StatusOK, teamsPage{Done: v.told()})
}

func (c *Console) renderTeams(w http.ResponseWriter, v *visit, status int, p teamsPage) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	var list wireTeamList
	if err := v.api().get(nil, &list, "orgs", m.Login, "teams"); err != nil {
		return err
	}
	p.Organization, p.Teams = m, list.Teams
	return c.render(w, v, status, "teams", v.part(m, "teams", "Teams", p))
}

func (c *Console) createTeam(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	p := teamsPage{Name: strings.TrimSpace(form.Get("name")), DisplayName: strings.TrimSpace(form.Get("displayName")), Description: strings.TrimSpace(form.Get("description"))}
	in := map[string]string{"name": p.Name, "displayName": p.DisplayName, "description": p.Description}
	err = v.api().call(http.MethodPost, nil, in, nil, "orgs", n.Organization, "teams", "pulumi")
	return c.after(w, v, err, teamPath(n.Organization, p.Name)+"?done=team", func(status int, problem string) error {
		p.Problem = problem
		return c.renderTeams(w, v, status, p)
	})
}

func teamPath(organization, team string) string {
	return stackName{Organization: organization}.Path("settings", "teams", "team", team)
}

// teamPage is a team. The fields of its forms are as they were sent when that failed.
type teamPage struct {
	Organization wireMetadata
	Team         wireTeam
	Source       string // of its members, for a team that is not kept here
	Manages      bool   // the visitor may change what it is and who is in it
	Maps         bool   // and which groups are
	Connectors   []wireHealth
	Known        []wireExternal // groups of the visitor's
	Done         string

	Name, DisplayName, Description string
	About                          string // the problem with them
	Login, Members                 string
	Connector, Group, Groups       string
	Typed                          bool // Name and so on are as typed
}

// team shows a team.
func (c *Console) team(w http.ResponseWriter, v *visit) error {
	return c.renderTeam(w, v, http.StatusOK, teamPage{Done: v.told()})
}

func (c *Console) renderTeam(w http.ResponseWriter, v *visit, status int, p teamPage) error {
	m, team, err := v.teamOf()
	if err != nil {
		return err
	}
	p.Organization, p.Team, p.Maps = m, team, m.Admin()
	p.Manages = m.Admin() || team.UserRole == "admin"
	p.Source = teamSource(team)
	if !p.Typed {
		p.Name, p.DisplayName, p.Description = team.Name, team.DisplayName, team.Description
	}
	if p.Maps {
		if err := c.mappable(v, &p); err != nil {
			return err
		}
	}
	return c.render(w, v, status, "team", v.part(m, "teams", orElse(team.DisplayName, team.Name), p))
}

func (v *visit) teamOf() (wireMetadata, wireTeam, error) {
	var team wireTeam
	name := v.r.PathValue("team")
	if !validName(name) {
		return wireMetadata{}, team, errNoPage
	}
	m, err := v.office()
	if err == nil {
		err = v.api().get(nil, &team, "orgs", m.Login, "teams", name)
	}
	return m, team, err
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// teamSource says who decides about the members of a team; "" for people here.
func teamSource(t wireTeam) string {
	if !t.ReadOnly {
		return ""
	}
	switch t.Source {
	case "scim":
		return "the provisioning of the organization (SCIM)"
	case "github":
		return "a team of the GitHub organization"
	case "gitlab":
		return "a group at GitLab"
	case "saml":
		return "groups of the organization's single sign-on"
	case "oidc":
		return "groups of an OpenID Connect provider"
	}
	return "groups elsewhere"
}

// mappable adds where groups can come from: the connectors of the installation, and
// the organization's own.
func (c *Console) mappable(v *visit, p *teamPage) error {
	for _, site := range c.config.Connectors.Site() {
		info := site.Info()
		p.Connectors = append(p.Connectors, wireHealth{Name: info.Name, Kind: string(info.Kind), Title: info.Title})
	}
	if p.Organization.Kind == "saml" {
		p.Connectors = append(p.Connectors, wireHealth{Name: "saml:" + p.Organization.ID, Kind: "saml", Title: "Single sign-on of " + p.Organization.Login})
	}
	titles := map[string]string{}
	for _, one := range p.Connectors {
		titles[one.Name] = one.Title
	}
	for i, group := range p.Team.Groups {
		if titles[group.Connector] == "" {
			titles[group.Connector] = group.Connector
		}
		p.Team.Groups[i].Title = titles[group.Connector]
	}
	var known struct {
		Organizations []wireExternal `json:"organizations"`
	}
	if err := v.api().get(nil, &known, "user", "vcs", "organizations"); err != nil && !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Forbidden) {
		return err
	}
	p.Known = known.Organizations
	for _, org := range known.Organizations[:min(len(known.Organizations), maxKnown)] {
		var list struct {
			Teams []wireExternal `json:"teams"`
		}
		err := v.api().get(nil, &list, "user", "github", org.Login, "teams")
		if err != nil && !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Forbidden) {
			return err
		}
		p.Known = append(p.Known, list.Teams...)
	}
	return nil
}

// maxKnown bounds the organizations whose teams are offered.
const maxKnown = 5

// patchTeam changes a team, and shows the page again where that is refused.
func (c *Console) patchTeam(w http.ResponseWriter, v *visit, in any, name, done string, again func(problem string) teamPage) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	team := v.r.PathValue("team")
	if !validName(team) {
		return errNoPage
	}
	err = v.api().call(http.MethodPatch, nil, in, nil, "orgs", n.Organization, "teams", team)
	return c.after(w, v, err, teamPath(n.Organization, name)+"?done="+done, func(status int, problem string) error {
		return c.renderTeam(w, v, status, again(problem))
	})
}

// changeTeam changes the team's name and what is said of it.
func (c *Console) changeTeam(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := teamPage{Typed: true, Name: strings.TrimSpace(form.Get("name")), DisplayName: strings.TrimSpace(form.Get("displayName")), Description: strings.TrimSpace(form.Get("description"))}
	in := map[string]string{"newDisplayName": p.DisplayName, "newDescription": p.Description}
	if p.Name != v.r.PathValue("team") {
		in["newName"] = p.Name
	}
	return c.patchTeam(w, v, in, p.Name, "saved", func(problem string) teamPage {
		p.About = problem
		return p
	})
}

func (c *Console) changeTeamMember(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	login, do := strings.TrimSpace(form.Get("login")), form.Get("do")
	done := map[string]string{"add": "added", "promote": "role", "demote": "role", "remove": "removed"}[do]
	again := func(problem string) teamPage {
		p := teamPage{Members: problem}
		if do == "add" {
			p.Login = login
		}
		return p
	}
	err = c.patchTeam(w, v, map[string]string{"member": login, "memberAction": do}, v.r.PathValue("team"), done, again)
	if do == "add" && errors.Is(err, errs.NotFound) {
		return c.renderTeam(w, v, http.StatusNotFound, again("No member of the organization has the login "+login+"."))
	}
	return err
}

func (c *Console) changeTeamGroup(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	group := wireGroup{Connector: form.Get("connector"), ID: strings.TrimSpace(form.Get("group")), Path: strings.TrimSpace(form.Get("path"))}
	in, done := map[string]any{"addGroup": group}, "added"
	if form.Get("do") == "remove" {
		in, done = map[string]any{"removeGroup": group}, "removed"
	}
	again := func(problem string) teamPage {
		return teamPage{Connector: group.Connector, Group: group.ID, Groups: problem}
	}
	if group.ID == "" {
		return c.renderTeam(w, v, http.StatusBadRequest, again("Give the group's ID."))
	}
	return c.patchTeam(w, v, in, v.r.PathValue("team"), done, again)
}

func (c *Console) deleteTeamForm(w http.ResponseWriter, v *visit) error {
	return c.renderDeleteTeam(w, v, http.StatusOK, "")
}

func (c *Console) renderDeleteTeam(w http.ResponseWriter, v *visit, status int, problem string) error {
	m, team, err := v.teamOf()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "team-delete", v.ask(m, "Delete a team", removal{
		Organization: m, What: team.Name, Title: orElse(team.DisplayName, team.Name), Detail: count(team.MemberCount, "member"), Problem: problem,
	}))
}

func (c *Console) deleteTeam(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", n.Organization, "teams", v.r.PathValue("team"))
	return c.after(w, v, err, n.Path("settings", "teams")+"?done=team-gone", func(status int, problem string) error {
		return c.renderDeleteTeam(w, v, status, problem)
	})
}
