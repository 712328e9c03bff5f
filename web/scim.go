package web

import (
	"net/http"
	"time"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// provisioningPage is what an identity provider needs to keep accounts and teams here.
type provisioningPage struct {
	Organization      wireMetadata
	BaseURL           string
	Exists            bool
	Created, LastUsed time.Time
	By                string
	Secret            string // a token that has just been made, shown this once
	Done, Problem     string
}

func (c *Console) provisioning(w http.ResponseWriter, v *visit) error {
	return c.renderProvisioning(w, v, http.StatusOK, provisioningPage{Done: v.told()})
}

func (c *Console) renderProvisioning(w http.ResponseWriter, v *visit, status int, p provisioningPage) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	var token wireSCIM
	if err := v.api().get(nil, &token, "orgs", m.Login, "scim"); err != nil {
		return err
	}
	p.Organization, p.Exists, p.By = m, token.Exists, token.By
	p.Created, p.LastUsed = seconds(token.Created), seconds(token.LastUsed)
	p.BaseURL = c.api.JoinPath("scim", "v2", m.Login).String()
	view := v.part(m, "settings", "Provisioning", p)
	view.Sub = settingsParts(m.Login, "provisioning")
	return c.render(w, v, status, "organization-scim", view)
}

// createSCIMToken makes a token, in place of the one before, and shows it this once.
func (c *Console) createSCIMToken(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	var old wireSCIM
	if err := v.api().get(nil, &old, "orgs", n.Organization, "scim"); err != nil {
		return err
	}
	if old.Exists && form.Get("replace") != "yes" {
		return c.renderProvisioning(w, v, http.StatusConflict, provisioningPage{Problem: "There is a token already. Replace it, if whatever uses it may be refused from now on."})
	}
	var made struct {
		Value string `json:"tokenValue"`
	}
	err = v.api().call(http.MethodPost, nil, nil, &made, "orgs", n.Organization, "scim")
	if problem := inForm(err); problem != "" {
		return c.renderProvisioning(w, v, httpapi.Status(err), provisioningPage{Problem: problem})
	} else if err != nil {
		return err
	}
	return c.renderProvisioning(w, v, http.StatusOK, provisioningPage{Secret: made.Value})
}

func (c *Console) revokeSCIMForm(w http.ResponseWriter, v *visit) error {
	return c.renderRevokeSCIM(w, v, http.StatusOK, "")
}

func (c *Console) renderRevokeSCIM(w http.ResponseWriter, v *visit, status int, problem string) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "scim-revoke", v.ask(m, "Revoke the provisioning token", removal{Organization: m, Problem: problem}))
}

func (c *Console) revokeSCIM(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", n.Organization, "scim")
	return c.after(w, v, err, n.Path("settings", "provisioning")+"?done=scim-gone", func(status int, problem string) error {
		return c.renderRevokeSCIM(w, v, status, problem)
	})
}
