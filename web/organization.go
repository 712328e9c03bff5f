package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// organizationRoutes are the pages of organizations, but for those of their stacks.
func organizationRoutes() []route {
	const (
		members  = "/{org}/settings/members"
		teams    = "/{org}/settings/teams"
		saml     = "/{org}/settings/saml"
		general  = "/{org}/settings/general"
		scimPart = "/{org}/settings/provisioning"
	)
	return []route{
		{"GET", "/{org}", signedIn, (*Console).organization},
		{"GET", "/{org}/{project}", signedIn, (*Console).organization},
		{"GET", "/new/organization", signedIn, (*Console).foundForm},
		{"POST", "/new/organization", signedIn, (*Console).found},
		{"GET", "/{org}/settings/audit", signedIn, (*Console).audit},

		{"GET", members, signedIn, (*Console).members},
		{"POST", members, signedIn, (*Console).addMember},
		{"POST", members + "/role", signedIn, (*Console).changeRole},
		{"GET", members + "/remove/{user}", signedIn, (*Console).removeMemberForm},
		{"POST", members + "/remove/{user}", signedIn, (*Console).removeMember},
		{"POST", members + "/invite", signedIn, (*Console).inviteMembers},
		{"POST", members + "/link", signedIn, (*Console).inviteLink},
		{"POST", members + "/invite/{invite}", signedIn, (*Console).changeInvite},

		{"GET", teams, signedIn, (*Console).teams},
		{"POST", teams, signedIn, (*Console).createTeam},
		{"GET", teams + "/team/{team}", signedIn, (*Console).team},
		{"POST", teams + "/team/{team}", signedIn, (*Console).changeTeam},
		{"POST", teams + "/members/{team}", signedIn, (*Console).changeTeamMember},
		{"POST", teams + "/groups/{team}", signedIn, (*Console).changeTeamGroup},
		{"GET", teams + "/delete/{team}", signedIn, (*Console).deleteTeamForm},
		{"POST", teams + "/delete/{team}", signedIn, (*Console).deleteTeam},

		{"GET", general, signedIn, (*Console).generalForm},
		{"POST", general, signedIn, (*Console).changeGeneral},
		{"GET", general + "/rename", signedIn, (*Console).renameOrganizationForm},
		{"POST", general + "/rename", signedIn, (*Console).renameOrganization},
		{"POST", general + "/backing", signedIn, (*Console).changeBacking},
		{"GET", general + "/delete", signedIn, (*Console).deleteOrganizationForm},
		{"POST", general + "/delete", signedIn, (*Console).deleteOrganization},

		{"GET", saml, signedIn, (*Console).saml},
		{"POST", saml + "/prepare", signedIn, (*Console).prepareSAML},
		{"POST", saml + "/provider", signedIn, (*Console).changeProvider},
		{"POST", saml + "/options", signedIn, (*Console).changeSAML},
		{"POST", saml + "/require", signedIn, (*Console).requireSAML},
		{"POST", saml + "/administrator", signedIn, (*Console).changeSAMLAdministrator},
		{"GET", saml + "/remove", signedIn, (*Console).removeSAMLForm},
		{"POST", saml + "/remove", signedIn, (*Console).removeSAML},

		{"GET", scimPart, signedIn, (*Console).provisioning},
		{"POST", scimPart, signedIn, (*Console).createSCIMToken},
		{"GET", scimPart + "/revoke", signedIn, (*Console).revokeSCIMForm},
		{"POST", scimPart + "/revoke", signedIn, (*Console).revokeSCIM},
	}
}

// home sends the visitor to the first organization.
func (c *Console) home(w http.ResponseWriter, v *visit) error {
	me, err := v.user()
	if err != nil {
		return err
	}
	if len(me.Organizations) == 0 {
		return c.render(w, v, http.StatusOK, "home", page{Title: "No organization yet", Narrow: true})
	}
	http.Redirect(w, v.r, stackName{Organization: me.Organizations[0].Login}.Path(), http.StatusSeeOther)
	return nil
}

// maxStacks bounds the list of one organization. Search narrows it.
const maxStacks = 2000

type organizationPage struct {
	Organization wireOrganization
	Project      string // only this one, "" for all
	Search       string
	Projects     []project
	Stacks       int64 // shown
	All          int64 // there are
	More         bool  // and more than were asked for
}

type project struct {
	Name, Path string
	Stacks     []stackRow
}

type stackRow struct {
	Name, Path string
	Resources  *int64
	Updated    time.Time
	Busy       bool
}

// organization lists the stacks of an organization, or of one of its projects.
func (c *Console) organization(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	org, err := v.membership(n.Organization)
	if err != nil {
		return err
	}
	if org == nil {
		// The command calls /{login} the address of a person's stacks.
		http.Redirect(w, v.r, "/", http.StatusSeeOther)
		return nil
	}
	n.Organization = org.Login
	p := organizationPage{Organization: *org, Project: n.Project, Search: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if err := c.listStacks(v, &p); err != nil {
		return err
	}
	if n.Project != "" && p.All == 0 {
		return errNoPage
	}
	view := page{Title: org.Login, Crumbs: crumbs(n), Tabs: v.organizationTabs(org.Login, "stacks"), Body: p}
	if n.Project != "" {
		view.Title = n.Project
	}
	return c.render(w, v, http.StatusOK, "organization", view)
}

// membership returns the visitor's organization of that name, nil when the name is
// the visitor's own login, and otherwise an error.
func (v *visit) membership(name string) (*wireOrganization, error) {
	me, err := v.user()
	if err != nil {
		return nil, err
	}
	for _, org := range me.Organizations {
		if strings.EqualFold(org.Login, name) {
			return &org, nil
		}
	}
	if strings.EqualFold(me.Login, name) {
		return nil, nil
	}
	return nil, errNoPage
}

func (c *Console) listStacks(v *visit, p *organizationPage) error {
	query := url.Values{"organization": {p.Organization.Login}}
	if p.Project != "" {
		query.Set("project", p.Project)
	}
	var found []wireStackItem
	for {
		var list wireStackList
		if err := v.api().get(query, &list, "user", "stacks"); err != nil {
			return err
		}
		for _, s := range list.Stacks {
			p.All++
			if search := strings.ToLower(p.Search); strings.Contains(strings.ToLower(s.Project+"/"+s.Stack), search) {
				found = append(found, s)
			}
		}
		if list.Next == "" {
			break
		}
		if p.All >= maxStacks {
			p.More = true
			break
		}
		query.Set("continuationToken", list.Next)
	}
	p.Stacks = int64(len(found))
	p.Projects = byProject(found)
	return nil
}

// byProject groups stacks, both sorted by name.
func byProject(stacks []wireStackItem) []project {
	slices.SortFunc(stacks, func(a, b wireStackItem) int {
		if a.Project != b.Project {
			return strings.Compare(a.Project, b.Project)
		}
		return strings.Compare(a.Stack, b.Stack)
	})
	var projects []project
	for _, s := range stacks {
		n := stackName{s.Organization, s.Project, s.Stack}
		if len(projects) == 0 || projects[len(projects)-1].Name != s.Project {
			projects = append(projects, project{Name: s.Project, Path: stackName{Organization: n.Organization, Project: n.Project}.Path()})
		}
		row := stackRow{Name: s.Stack, Path: n.Path(), Resources: s.Resources}
		if s.LastUpdate != nil {
			row.Updated, row.Busy = seconds(*s.LastUpdate), *s.LastUpdate == 0
		}
		last := &projects[len(projects)-1]
		last.Stacks = append(last.Stacks, row)
	}
	return projects
}

// organizationTabs are the parts of an organization that the visitor's role opens. The
// API decides about each of them all the same.
func (v *visit) organizationTabs(org, current string) []tab {
	n := stackName{Organization: org}
	tabs := []tab{
		{"Stacks", n.Path(), current == "stacks"},
		{"Members", n.Path("settings", "members"), current == "members"},
		{"Teams", n.Path("settings", "teams"), current == "teams"},
	}
	if me, err := v.user(); err == nil && me.role(org) == "member" {
		return tabs
	}
	return append(tabs,
		tab{"Audit log", n.Path("settings", "audit"), current == "audit"},
		tab{"Settings", n.Path("settings", "general"), current == "settings"})
}

// settingsParts are the parts of an organization's settings.
func settingsParts(org, current string) []tab {
	n := stackName{Organization: org}
	return []tab{
		{"General", n.Path("settings", "general"), current == "general"},
		{"Single sign-on", n.Path("settings", "saml"), current == "saml"},
		{"Provisioning", n.Path("settings", "provisioning"), current == "provisioning"},
	}
}

// crumbs lead from the organization to what n names.
func crumbs(n stackName) []crumb {
	all := []crumb{{n.Organization, stackName{Organization: n.Organization}.Path()}}
	if n.Project != "" {
		all = append(all, crumb{n.Project, stackName{Organization: n.Organization, Project: n.Project}.Path()})
	}
	if n.Stack != "" {
		all = append(all, crumb{n.Stack, n.Path()})
	}
	return all
}
