package web

import (
	"net/http"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// told are what somebody has just done to an organization or to the installation, by
// the query of the page that it leads to.
var told = map[string]string{
	"role":             "The role is changed. It holds from the next request on.",
	"added":            "Added.",
	"removed":          "Removed. It holds from the next request on.",
	"canceled":         "The invite is canceled: its link no longer works.",
	"approved":         "Approved: they are a member now.",
	"saved":            "Saved.",
	"team":             "The team is made.",
	"team-gone":        "The team is deleted.",
	"organization":     "Renamed. Addresses and commands with the old name still lead here.",
	"backing":          "Changed where members come from.",
	"prepared":         "The keys are made, and the metadata can be fetched.",
	"provider":         "The identity provider is saved. Test it before you tell anybody.",
	"required":         "Single sign-on is required from now on.",
	"optional":         "Single sign-on is no longer required.",
	"exempt":           "Saved who needs no single sign-on.",
	"saml-gone":        "Single sign-on is removed. The organization is a plain one again.",
	"scim-gone":        "The token is revoked. The next request with it is refused.",
	"disabled":         "The account is disabled. Its sessions and tokens are refused from now on.",
	"enabled":          "The account is enabled.",
	"site-admin":       "They are a site administrator now.",
	"not-site-admin":   "They are no longer a site administrator.",
	"sessions":         "All sessions of the account have ended. Its access tokens work on.",
	"user-gone":        "The account is deleted.",
	"restored":         "The organization is back.",
	"purged":           "The organization and everything in it are gone.",
	"mail-gone":        "The mail is removed.",
	"deletion-pending": "The organization is deleted. A site administrator can bring it back until it is purged.",
}

func (v *visit) told() string { return told[v.r.URL.Query().Get("done")] }

// inForm returns what a form says about err, "" when a page of its own has to.
func inForm(err error) string {
	if err != nil && (badInput(err) || errs.KindOf(err) == errs.Exhausted) {
		return sentence(errs.Public(err))
	}
	return ""
}

// after ends a form: it leads on when err is nil, and otherwise shows the form again
// with what was typed, when the error is about that.
func (c *Console) after(w http.ResponseWriter, v *visit, err error, to string, again func(status int, problem string) error) error {
	if problem := inForm(err); problem != "" {
		return again(httpapi.Status(err), problem)
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, to, http.StatusSeeOther)
	return nil
}

// office returns the organization that the page is about.
func (v *visit) office() (wireMetadata, error) {
	var m wireMetadata
	n, err := v.names()
	if err != nil {
		return m, err
	}
	if err := v.api().get(nil, &m, "orgs", n.Organization, "metadata"); err != nil {
		return m, err
	}
	if m.Login == "" {
		m.Login = n.Organization
	}
	return m, nil
}

// part returns the page of a part of an organization.
func (v *visit) part(m wireMetadata, tab, title string, body any) page {
	return page{Title: title, Crumbs: crumbs(stackName{Organization: m.Login}), Tabs: v.organizationTabs(m.Login, tab), Body: body}
}

// ask returns a page that asks before something happens.
func (v *visit) ask(m wireMetadata, title string, body any) page {
	return page{Title: title, Crumbs: crumbs(stackName{Organization: m.Login}), Narrow: true, Body: body}
}

// founds reports whether to offer the visitor to make an organization.
func (v *visit) founds() bool {
	return v.who.ManagedBy == "" && (v.c.config.OpenOrganizations || v.who.SiteAdmin)
}

type foundPage struct{ Login, Name, Problem string }

func (c *Console) foundForm(w http.ResponseWriter, v *visit) error {
	return c.renderFound(w, v, http.StatusOK, foundPage{})
}

func (c *Console) renderFound(w http.ResponseWriter, v *visit, status int, p foundPage) error {
	return c.render(w, v, status, "organization-new", page{Title: "New organization", Narrow: true, Body: p})
}

// found makes an organization with the visitor as its administrator.
func (c *Console) found(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := foundPage{Login: strings.TrimSpace(form.Get("login")), Name: strings.TrimSpace(form.Get("name"))}
	var made wireOrganization
	err = v.api().call(http.MethodPost, nil, map[string]string{"githubLogin": p.Login, "name": p.Name}, &made, "orgs")
	return c.after(w, v, err, stackName{Organization: made.Login}.Path(), func(status int, problem string) error {
		p.Problem = problem
		return c.renderFound(w, v, status, p)
	})
}
