package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

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
	view := page{Title: org.Login, Crumbs: crumbs(n), Tabs: organizationTabs(org.Login, "stacks"), Body: p}
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

type membersPage struct {
	Members []memberRow
	Next    string
}

type memberRow struct {
	Login, Name, Role string
	Since             time.Time
	You               bool
}

// members lists who is in an organization.
func (c *Console) members(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	query := url.Values{"type": {"frontend"}}
	if after := v.r.URL.Query().Get("after"); after != "" {
		query.Set("continuationToken", after)
	}
	var list wireMemberList
	if err := v.api().get(query, &list, "orgs", n.Organization, "members"); err != nil {
		return err
	}
	var p membersPage
	for _, m := range list.Members {
		p.Members = append(p.Members, memberRow{m.User.Login, m.User.Name, m.Role, m.Created.Time(), m.User.Login == v.who.Login})
	}
	if list.Next != "" {
		p.Next = n.Path("settings", "members") + "?" + url.Values{"after": {list.Next}}.Encode()
	}
	return c.render(w, v, http.StatusOK, "members", page{
		Title: "Members", Crumbs: crumbs(n), Tabs: organizationTabs(n.Organization, "members"), Body: p,
	})
}

func organizationTabs(org, current string) []tab {
	n := stackName{Organization: org}
	return []tab{
		{"Stacks", n.Path(), current == "stacks"},
		{"Audit log", n.Path("settings", "audit"), current == "audit"},
		{"Members", n.Path("settings", "members"), current == "members"},
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
