package web

import (
	"net/http"
	"strconv"
	"strings"
)

// generalPage is what an organization is. The fields of its forms are as they were
// sent when that failed.
type generalPage struct {
	Organization wireMetadata
	Done         string

	Name    string
	Default int
	Problem string

	Backings       []backing // of the visitor's, that could stand behind it
	Chosen         string
	BackingProblem string
}

// backing is a group at a provider. Value is what the form sends.
type backing struct{ Value, Text string }

func (c *Console) generalForm(w http.ResponseWriter, v *visit) error {
	return c.renderGeneral(w, v, http.StatusOK, generalPage{Done: v.told()})
}

func (c *Console) renderGeneral(w http.ResponseWriter, v *visit, status int, p generalPage) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	if p.Organization = m; p.Problem == "" {
		p.Name, p.Default = m.Name, m.Default
	}
	if m.Admin() && m.Kind != "saml" {
		var list struct {
			Organizations []wireExternal `json:"organizations"`
		}
		if err := v.api().get(nil, &list, "user", "vcs", "organizations"); err != nil {
			return err
		}
		for _, group := range list.Organizations {
			if group.Admin {
				p.Backings = append(p.Backings, backing{group.Connector + " " + group.Login, group.Login + " (" + c.sources(v, wireMetadata{})(group.Connector) + ")"})
			}
		}
	}
	view := v.part(m, "settings", "General settings", p)
	view.Sub = settingsParts(m.Login, "general")
	return c.render(w, v, status, "organization-general", view)
}

// changeGeneral changes the name that is shown, and what members may do with stacks.
func (c *Console) changeGeneral(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	p := generalPage{Name: strings.TrimSpace(form.Get("name"))}
	if p.Default, err = strconv.Atoi(form.Get("permission")); err != nil {
		p.Problem = "Choose what members may do with stacks."
		return c.renderGeneral(w, v, http.StatusBadRequest, p)
	}
	err = v.api().call(http.MethodPatch, nil, map[string]any{"setName": p.Name, "setDefaultStackPermission": p.Default}, nil, "orgs", n.Organization)
	return c.after(w, v, err, n.Path("settings", "general")+"?done=saved", func(status int, problem string) error {
		p.Problem = problem
		return c.renderGeneral(w, v, status, p)
	})
}

// changeBacking changes where members come from.
func (c *Console) changeBacking(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	chosen := form.Get("backing")
	connector, group, _ := strings.Cut(chosen, " ")
	err = v.api().call(http.MethodPut, nil, map[string]string{"connector": connector, "group": group}, nil, "orgs", n.Organization, "backing")
	return c.after(w, v, err, n.Path("settings", "general")+"?done=backing", func(status int, problem string) error {
		return c.renderGeneral(w, v, status, generalPage{Chosen: chosen, BackingProblem: problem})
	})
}

// renaming asks for a new name and for the old one again, so that nobody renames what
// others build on without meaning to.
type renaming struct {
	Organization wireMetadata
	New, Problem string
}

func (c *Console) renameOrganizationForm(w http.ResponseWriter, v *visit) error {
	return c.renderRenameOrganization(w, v, http.StatusOK, renaming{})
}

func (c *Console) renderRenameOrganization(w http.ResponseWriter, v *visit, status int, p renaming) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	p.Organization = m
	return c.render(w, v, status, "organization-rename", v.ask(m, "Rename the organization", p))
}

func (c *Console) renameOrganization(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	m, err := v.office()
	if err != nil {
		return err
	}
	p := renaming{New: strings.TrimSpace(form.Get("new"))}
	again := func(status int, problem string) error {
		p.Problem = problem
		return c.renderRenameOrganization(w, v, status, p)
	}
	if strings.TrimSpace(form.Get("confirm")) != m.Login {
		return again(http.StatusBadRequest, "That is not the name that it has now. Nothing is renamed.")
	}
	var renamed wireOrganization
	err = v.api().call(http.MethodPost, nil, map[string]string{"newName": p.New}, &renamed, "orgs", m.Login, "rename")
	return c.after(w, v, err, stackName{Organization: renamed.Login}.Path("settings", "general")+"?done=organization", again)
}

func (c *Console) deleteOrganizationForm(w http.ResponseWriter, v *visit) error {
	return c.renderDeleteOrganization(w, v, http.StatusOK, "")
}

func (c *Console) renderDeleteOrganization(w http.ResponseWriter, v *visit, status int, problem string) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "organization-delete", v.ask(m, "Delete the organization", removal{Organization: m, What: m.Login, Problem: problem, Detail: count(m.MemberCount, "member")}))
}

func (c *Console) deleteOrganization(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	m, err := v.office()
	if err != nil {
		return err
	}
	again := func(status int, problem string) error { return c.renderDeleteOrganization(w, v, status, problem) }
	if strings.TrimSpace(form.Get("confirm")) != m.Login {
		return again(http.StatusBadRequest, "That is not the name of the organization. Nothing is deleted.")
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", m.Login)
	return c.after(w, v, err, "/", again)
}
